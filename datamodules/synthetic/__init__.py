"""The embedded audio-visual corpus: talkers, mouths and noises that a name decides, made when they are first asked for."""
