"""Constitutional AI for alignlab. It registers nothing yet: the critique-and-revise data stage comes here."""
