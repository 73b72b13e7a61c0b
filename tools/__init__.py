"""Programs for those who maintain the project; they are not in the wheel."""
