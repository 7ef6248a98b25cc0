"""What a recipe can name: one function in one file adds an entry. Folders are called as the recipe's sections."""
