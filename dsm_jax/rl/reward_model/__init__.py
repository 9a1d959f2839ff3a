"""The reward model: a decoder whose score is read at the ends of steps; training, folders, scores, verification."""
