"""State of installed libraries: captured, compared and put back as their profiles say."""
