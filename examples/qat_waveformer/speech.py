"""Synthetic speech for a keyword spotter: twelve classes, spoken by Debian's espeak-ng."""
import io
import shutil
import subprocess
import wave

import numpy as np

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = ("bed", "bird", "cat", "dog", "five", "happy", "house", "marvin", "sheila", "tree", "wow", "seven", "zero")
CLASSES = (*WORDS, "unknown", "silence")
RATE = 8000
LANGUAGES = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbcwmd")
# Voices of the test clips are never heard in training.
TRAIN_VOICES = ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3", "Andy", "Annie", "David", "Michael", "Linda", "Mike")
TEST_VOICES = ("m6", "m7", "f4", "f5", "Adam", "Belinda", "Paul", "steph")


def resample(audio, rate):
    """Band-limited to RATE: the spectrum is cut."""
    count = len(audio) * RATE // rate
    return np.fft.irfft(np.fft.rfft(audio)[:count // 2 + 1], count) * count / len(audio)


def speak(word, voice, language, speed, pitch):
    """Samples in [-1, 1] at RATE, without silence at either end."""
    command = ["espeak-ng", "-v", f"{language}+{voice}", "-s", str(speed), "-p", str(pitch), "--stdout", word]
    sound = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    with wave.open(io.BytesIO(sound)) as file:
        rate = file.getframerate()
        audio = np.frombuffer(file.readframes(1 << 24), "<i2").astype(np.float64)  # the header's length is not set
    audio = resample(audio[:len(audio) // 2 * 2], rate)
    loud = np.flatnonzero(np.abs(audio) > 0.02 * np.abs(audio).max())
    return audio[loud[0]:loud[-1] + 1] / np.abs(audio).max()


def clip(label, length, voices, rng):
    """int16 [length]: a word somewhere in the middle, with noise behind it."""
    audio = np.zeros(length)
    name = CLASSES[label]
    if name != "silence":
        word = str(rng.choice(OTHERS)) if name == "unknown" else name
        voice, language = rng.choice(voices), rng.choice(LANGUAGES)
        sound = speak(word, voice, language, rng.integers(150, 231), rng.integers(25, 76))[:length]
        start = int(rng.integers((length - len(sound)) // 4, max(3 * (length - len(sound)) // 4, 1) + 1))
        start = min(start, length - len(sound))
        audio[start:start + len(sound)] = rng.uniform(0.4, 0.9) * sound
    level = rng.uniform(0.002, 0.02)
    return np.rint(np.clip(audio + level * rng.standard_normal(length), -1, 1) * 32767).astype(np.int16)


def clips(count, length, voices, rng):
    """-> int16 [count, length], labels [count], classes in turn."""
    labels = np.arange(count) % len(CLASSES)
    return np.stack([clip(int(c), length, voices, rng) for c in labels]), labels.astype(np.int64)


def dataset(train, test, length, seed):
    """-> {"train": (audio, labels), "test": (audio, labels)}; the same for the same espeak-ng."""
    if not shutil.which("espeak-ng"):
        raise SystemExit("speech.py: espeak-ng is missing: apt-get install espeak-ng (or run with --quick)")
    rng = np.random.default_rng(seed)
    return {"train": clips(train, length, TRAIN_VOICES, rng), "test": clips(test, length, TEST_VOICES, rng)}
