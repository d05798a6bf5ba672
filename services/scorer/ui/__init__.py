"""The page for people: routes, views, live updates, rendering."""
