"""The small world: a seeded grammar of dialogue with a true reward known in code, and labellers who err."""

from alignlab.data.world.labels import label_probability
from alignlab.data.world.reward import attributes, true_reward, true_reward_function
from alignlab.data.world.source import World, WorldSettings

__all__ = ["World", "WorldSettings", "attributes", "label_probability", "true_reward", "true_reward_function"]
