"""The command `report`: shows what recorded calls came to, as a page, a picture, text or data."""
