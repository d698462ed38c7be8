"""Human tasks: questions and reviews that suspended tasks wait for, and their answers."""
