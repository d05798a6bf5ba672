"""Learning from outcomes, on arrays alone: stage filter, log-odds layer, calibration, measures."""
