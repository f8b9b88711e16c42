"""What is measured; a module is imported only in the process of the side that it is for."""
