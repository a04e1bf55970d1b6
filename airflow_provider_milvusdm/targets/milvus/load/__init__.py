"""Write the rows of load units."""
