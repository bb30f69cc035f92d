"""Reinforcement learning from AI feedback for alignlab. It registers nothing yet: judges and AI labels come here."""
