"""The lesson: ten chapters, each with three sentences, one thing to play with, and a question to guess.

Texts may name figures of the run on view in braces (``ui.tabs.learn.figures``).
"""

from __future__ import annotations

from dataclasses import dataclass

# What a chapter has to play with.
NOISE, DOTS, PLAYER, WORDS, STRIP = "noise", "dots", "player", "words", "strip"


@dataclass(frozen=True)
class GuessedQuestion:
    """A question with answers to choose from, one of them right.

    Attributes:
        text: the question.
        answers: three.
        right: position of the right one.
        why: what is shown after the guess.
    """

    text: str
    answers: tuple[str, str, str]
    right: int
    why: str


@dataclass(frozen=True)
class RunPlan:
    """Pictures to compare: one setting of the run at several values.

    Attributes:
        label: of its button.
        setting: name of an axis of ``pipelines.grid.axes``.
        values: as a user writes them; "samplers" and "negative" are filled in from the run.
        rows, row_values: of a second axis, or empty.
        changes: further fields of the request.
        pocket: whether it needs the run that comes with the program.
    """

    label: str
    setting: str
    values: str
    rows: str = ""
    row_values: str = ""
    changes: tuple[tuple[str, object], ...] = ()
    pocket: bool = False


@dataclass(frozen=True)
class Chapter:
    """One screen.

    Attributes:
        title: of the chapter.
        text: three sentences or so.
        live: one of ``NOISE``, ``DOTS``, ``PLAYER``, ``WORDS``, ``STRIP``.
        question: to guess.
        left, right: lenses of the player.
        share: where the player begins, 0 (noise) to 1 (picture).
        plans: of the strip.
        more: label of a link and the panel of Denoising that it opens, or empty.
        nearest: label of a button that looks for the training pictures nearest to a picture, or empty.
        onward: where the method goes next: what, how, and a paper with its address.
    """

    title: str
    text: tuple[str, str, str]
    live: str
    question: GuessedQuestion
    left: str = "x_t"
    right: str = "x0"
    share: float = 0.0
    plans: tuple[RunPlan, ...] = ()
    more: tuple[str, str] = ("", "")
    nearest: str = ""
    onward: tuple[tuple[str, str, tuple[str, str]], ...] = ()


SAMPLERS, NEGATIVE = "samplers", "negative"
CHAPTERS: tuple[Chapter, ...] = (
    Chapter(
        "Noise a picture",
        (
            "Take a picture and mix random numbers into it, more and more, until only noise is left.",
            "That needs no model: it is arithmetic, and it is called the forward process.",
            "Move the slider over \u201c{prompt}\u201d or your own photo: at t = 0 it is the picture, at 999 noise.",
        ),
        NOISE,
        GuessedQuestion(
            "A model is to learn from such noisy pictures. What does it need as the right answer?",
            (
                "The noise that was mixed in",
                "A note from a person on how good each picture is",
                "Another model that knows the answer already",
            ),
            0,
            "The program drew the noise, so it knows the answer: every picture gives any number of exercises, and no "
            "person has to mark them. Only the captions, from which the model learns words, come with the pictures.",
        ),
        more=("The same on the latent, and what the model makes of it", "forward"),
    ),
    Chapter(
        "Learning to predict noise",
        (
            "This tiny model is a real one: it learns from dots in the plane as large models learn from pictures.",
            "It sees dots with noise, predicts the noise, and after each batch its weights move a little so that the "
            "error shrinks.",
            "Choose a shape and press Train: the bars are its error, the marks the least error that is possible.",
        ),
        DOTS,
        GuessedQuestion(
            "Why does the error never fall to 0, however long it learns?",
            (
                "Its learning rate is too high",
                "Many clean dots could lie under one noisy dot",
                "A larger network would get there",
            ),
            1,
            "The best possible predictor knows every dot and still can only answer with their average, weighed by how "
            "likely each is. No network gets below its error. That average is also why a model's first guess of a "
            "picture is a blur.",
        ),
    ),
    Chapter(
        "Noise becomes a picture",
        (
            "A run begins with noise alone, drawn from a seed: the same seed gives the same noise.",
            "At each step the model predicts the noise, the sampler takes a part of it away, and the model is asked "
            "again.",
            "This run took {steps} steps: on the left what the model was given, on the right its guess of the picture.",
        ),
        PLAYER,
        GuessedQuestion(
            "When is it decided what is where in the picture?",
            ("Early, while it still looks like noise", "Evenly, a bit at every step", "In the last steps"),
            0,
            "In this run half of all change to the guess was done by step {half} of {steps}. The later steps add "
            "detail: with less noise fewer pictures are possible, and the guess gets sharper.",
        ),
    ),
    Chapter(
        "Words steer it",
        (
            "A text encoder turns the prompt into vectors, one for each word or part of a word.",
            "At every step each place of the picture looks up the words that matter to it: this is called attention.",
            "Choose a word of the prompt to see which places read it, and move through the steps with the slider.",
        ),
        WORDS,
        GuessedQuestion(
            "What does a model draw when it gets no words at all?",
            (
                "Nothing: noise stays noise",
                "Some picture of the kinds that it was trained on",
                "The picture that it drew before",
            ),
            1,
            "Taking noise away leads to a picture with or without words. The prompt only says to which of all the "
            "pictures that the model can draw.",
        ),
        more=("Which word drew what", "words"),
    ),
    Chapter(
        "Why it works on a latent",
        (
            "The picture on view has {pixels} numbers: {width} x {height} points of three colours.",
            "A second network, the autoencoder, packs it into a latent of {latents} numbers: {ratio} times fewer.",
            "All steps work on the latent, on the left; at the end it is unpacked into the picture, on the right.",
        ),
        PLAYER,
        GuessedQuestion(
            "What gets lost when a picture is packed so small?",
            ("Its colours", "Nothing at all", "Fine detail, which the unpacking has to redraw"),
            2,
            "Neighbouring points of a picture are alike, so a few numbers hold what cannot be guessed. The rest is "
            "redrawn, and that is why small letters and far-off faces are the first to go wrong.",
        ),
        left="latent",
        share=1.0,
    ),
    Chapter(
        "Guidance",
        (
            "With guidance the model is asked twice at each step: once with the prompt, once without it.",
            "The difference says which way the prompt pulls; the guidance scale says how many times to follow it.",
            "The strip shows one seed from 0, the answer without the prompt, over 1, the plain answer to it, to 20.",
        ),
        STRIP,
        GuessedQuestion(
            "What does a guidance of 20 do to the picture?",
            (
                "It exaggerates: harsh colours, and pictures that are all alike",
                "It follows the prompt more exactly, at no price",
                "It needs more steps, and is otherwise the same",
            ),
            0,
            "A lot of it leads out of the range of pictures that the model was trained on. Its price is time as well: "
            "at 0 and 1 a step costs one answer of the model, above that two. {guidance} is usual for {model}.",
        ),
        plans=(RunPlan("Draw the strip", "guidance_scale", "0, 1, 2, 4, 7.5, 12, 20"),),
        more=("Guidance at every step", "guidance"),
    ),
    Chapter(
        "The negative prompt",
        (
            "Guidance leads away from an answer without words; a negative prompt puts words into that answer.",
            "The run then leads towards the prompt and away from the negative prompt, at every step.",
            "Draw both: the same seed and prompt, without a negative prompt and with \u201c{negative}\u201d as one.",
        ),
        STRIP,
        GuessedQuestion(
            "Why does a negative prompt do nothing at guidance 1?",
            (
                "It is read only in the last step",
                "The answer that it changes is not asked for then",
                "Its words are too weak",
            ),
            1,
            "At guidance 1 the plain answer to the prompt is followed and the second answer is left out. A negative "
            "prompt is no eraser: it has to be led away from, and that is guidance.",
        ),
        plans=(RunPlan("Draw both", "negative_prompt", NEGATIVE),),
    ),
    Chapter(
        "Many steps or few",
        (
            "Each step is a leap along a slope that is known only where the step begins.",
            "Few steps leap far on a vague guess; many steps cost time, and the last of them change little.",
            "Draw one seed with 1 to 50 steps, or let samplers race: they are different ways to take the same steps.",
        ),
        STRIP,
        GuessedQuestion(
            "You stop a run of 50 steps after 25. Do you have the picture of a run of 25 steps?",
            ("Yes, steps are steps", "No, half of its noise schedule is missing", "Yes, but only with some samplers"),
            1,
            "A run divides the whole way from noise to picture among its steps. Stopped half way it is still noisy; "
            "a run of 25 steps takes strides twice as long and arrives.",
        ),
        plans=(
            RunPlan("Draw 1 to 50 steps", "num_inference_steps", "1, 2, 4, 8, 25, 50"),
            RunPlan("Race the samplers at 8 steps", "scheduler", SAMPLERS, changes=(("num_inference_steps", 8),)),
        ),
    ),
    Chapter(
        "A model that was taught to leap",
        (
            "A second training can teach a model to name, in one step, where its many small steps would end.",
            "That is distillation: here Pocket turbo learned it from Pocket, to answer alike all along one path.",
            "Draw both from the same noise, without guidance and with the same sampler, in 1, 2 and 4 steps.",
        ),
        STRIP,
        GuessedQuestion(
            "What does a distilled model give up for its speed?",
            ("The prompt: it draws what it likes", "Some detail and variety", "Nothing, it is simply better"),
            1,
            "By its model card Pocket turbo's pictures in 4 steps are recognised 98% as often as Pocket's in 25, and "
            "in 1 step 97%; they are less exact in detail. Some distilled models also take no negative prompt.",
        ),
        plans=tuple(
            RunPlan(
                label,
                "num_inference_steps",
                "1, 2, 4",
                rows="model",
                row_values="pocket, pocket-turbo",
                changes=(("guidance_scale", 1.0), ("scheduler", scheduler), ("negative_prompt", "")),
                pocket=True,
            )
            for label, scheduler in (("Draw both by consistency steps", "lcm"), ("Draw both by DDIM", "ddim"))
        ),
    ),
    Chapter(
        "What goes wrong, what comes next",
        (
            "A model knows what its training showed: it draws other words as something that it knows, does not count, "
            "and at a size it was not made for may draw everything twice.",
            "Safety checkers and blocked words exist because it draws what it is asked for.",
            "Draw words, a count and sizes, or look for the training pictures that a picture is nearest to.",
        ),
        STRIP,
        GuessedQuestion(
            "How can people tell later that a picture was made by a model?",
            (
                "Every such picture has six fingers somewhere",
                "It cannot be told in any way",
                "The file says so, as long as that note is kept",
            ),
            2,
            "Pictures that are saved here carry the mark that a model made them, with their settings; a screenshot "
            "loses it.",
        ),
        plans=(
            RunPlan(
                "Draw words and counts",
                "prompt",
                "a red apple on a yellow background | a zorp on a yellow background"
                " | seven red apples on a yellow background",
                pocket=True,
            ),
            RunPlan("Draw three sizes", "size", "64x64, 128x128, 256x256", pocket=True),
        ),
        more=("Best possible guess", "best"),
        nearest="Find the nearest training pictures",
        onward=(
            (
                "Video",
                "The latent gets a third side, time: all frames lose their noise together.",
                ("Ho et al. 2022", "https://arxiv.org/abs/2204.03458"),
            ),
            (
                "Sound",
                "A latent of a spectrogram, a picture of which pitch sounds when, is steered by words.",
                ("Liu et al. 2023", "https://arxiv.org/abs/2301.12503"),
            ),
            (
                "3D",
                "A picture model judges a scene from every side until all views look right.",
                ("Poole et al. 2022", "https://arxiv.org/abs/2209.14988"),
            ),
        ),
    ),
)
