"""The parts of the comparison kit: what runs, what loads it, what is counted, what is printed."""
