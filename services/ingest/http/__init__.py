"""How requests are read, admitted, answered and described."""
