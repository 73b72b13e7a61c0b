"""What the check does with the server: short sessions, each made to provoke some answers.

`SCENES` has them in the order in which they are held.
"""

from pipecat_hydra.cli.check.scenes.audio import AUDIO_SCENES
from pipecat_hydra.cli.check.scenes.scene import Scene, Stage
from pipecat_hydra.cli.check.scenes.sessions import CONNECTION, SESSION_SCENES
from pipecat_hydra.cli.check.scenes.speech import SPEECH_SCENES

__all__ = ["CONNECTION", "SCENES", "Scene", "Stage"]

SCENES = {scene.name: scene for scene in (*SESSION_SCENES, *SPEECH_SCENES, *AUDIO_SCENES)}
"""All scenes, by name."""
