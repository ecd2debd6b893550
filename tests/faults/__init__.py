"""What happens when processes die, stand still or lose their disk, in real processes and real time."""
