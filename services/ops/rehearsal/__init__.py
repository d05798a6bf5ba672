"""`rehearse`: a playbook on simulated people in virtual time, without servers."""
