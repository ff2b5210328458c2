"""The recipe of the seedling, the small bilingual model that ships with Banyan."""
