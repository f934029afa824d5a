"""The claims: sentence, source, what measures it, the rule that decides, and the answer in words.

No bound here was measured; they say what the words of a sentence mean: *level* is less than
`note.LEVEL` decades a layer, *untrainable* at most one network in twenty, *solved* at least half.
An answer is said only where the verdict and its cases are those that it tells of.
"""

from fadeout.claims import literature, note, remedies
from fadeout.claims.rules import Claim, Rule, above, below
from fadeout.claims.select import DECADES

NOTE = "the lecture note"

CLAIMS: dict[str, Claim] = {
    "sigmoid-formula": Claim(
        "The sigmoid is 1 / (1 + e^x).",
        NOTE,
        note.sigmoid_formula,
        {"largest distance from the sigmoid": below(1e-6), "slope at 0": above(0)},
        answer="fails: it is 1/(1 + e^-x), as the note's code has it",
    ),
    "neuron-fuzziness": Claim(
        "A neuron fires past a threshold, yet gradedly: a weak input gives a weak response.",
        NOTE,
        note.neuron_fuzziness,
        {"firing rate less sigmoid(input)": Rule(-0.01, 0.01)},
        answer="holds only for a noisy threshold",
    ),
    "step-untrainable": Claim(
        "The step's derivative is zero, so that gradients cannot train a network of it.",
        NOTE,
        note.step_untrainable,
        {"largest gradient of a hidden kernel": below(0), "share solved": below(0.05)},
        ("step_untrainable",),
        answer="holds only for the hidden layers, or 2 units",
        least=100,
    ),
    "sigmoid-saturation": Claim(
        "Saturation kills the gradients of sigmoid networks.",
        NOTE,
        note.sigmoid_saturation,
        {
            f"{DECADES}, most units saturated": above(note.LEVEL),
            f"{DECADES}, no units saturated": below(note.LEVEL),
        },
        ("depth_slopes",),
    ),
    "init-avoids-saturation": Claim(
        "A careful initialisation avoids saturation, and so vanishing gradients.",
        NOTE,
        note.init_avoids_saturation,
        {"neither saturated nor vanishing": above(0.5)},
        ("init_avoids_saturation",),
    ),
    "one-sided-gradients": Claim(
        "Outputs that are not centred on zero give a unit weight gradients of one sign.",
        f"{NOTE}; LeCun 1998",
        note.one_sided_gradients,
        {"units with one-sided gradients": above(0.95)},
        ("one_sided",),
        answer="holds only for one example",
    ),
    "zigzag": Claim(
        "Inputs that are not centred on zero make learning zigzag, and slow.",
        f"{NOTE}; LeCun 1991, 1998",
        note.zigzag,
        {
            "steps from {0, 1} over the other's": above(1),
            "path over displacement, the same": above(1),
        },
        ("zigzag",),
    ),
    "relu-no-vanishing": Claim(
        "Relu overcomes the vanishing gradient.",
        NOTE,
        note.relu_no_vanishing,
        {DECADES: below(note.LEVEL)},
        ("depth_slopes",),
        answer="holds only at weight variance 2",
    ),
    "relu-faster": Claim(
        "Relu trains faster than sigmoid and tanh.",
        f"{NOTE}; Krizhevsky 2012",
        note.relu_faster,
        {
            "median steps to solve, relu's over the other's": below(1),
            "share solved, relu's less the other's": above(-0.05),
        },
        ("relu_faster",),
        answer="holds only against sigmoid, and against tanh with SGD, and never for the share "
        "solved",
    ),
    "relu-dies": Claim(
        "Relu units die, because negative inputs have no gradient.",
        NOTE,
        note.relu_dies,
        {"units born dead": above(0.01), "networks born dead": above(0.01)},
        ("relu_dies_units", "relu_dies_networks"),
        answer="fails only at birth on inputs {-1, 1}",
    ),
    "relu-not-centred": Claim(
        "Relu's outputs are not centred on zero.",
        NOTE,
        note.relu_not_centred,
        {"mean output over the deviation of the input": above(0.1)},
        ("not_centred",),
    ),
    "decay-per-layer": Claim(
        "With saturating activations, gradients shrink by phi' at every layer.",
        NOTE,
        note.decay_per_layer,
        {DECADES: above(note.LEVEL)},
        ("depth_slopes",),
        answer="fails only for tanh at weight variance 1 and 2",
    ),
    "weight-gradients-hide": Claim(
        "The norms of weight gradients reveal a vanishing gradient.",
        "common practice; denied by Glorot & Bengio 2010",
        literature.weight_gradients_hide,
        {"loss that weight gradients show of delta's": above(0.5)},
        ("depth_slopes",),
        answer="holds only for sigmoid",
    ),
    "he-30": Claim(
        "At 30 relu layers Xavier's initialisation stalls, and He's does not.",
        "He 2015, fig. 3",
        literature.he_30,
        {"networks that learn with Xavier": below(0.5), "networks that learn with He": above(0.5)},
        ("he_30",),
        answer="fails only for Xavier with Adam",
    ),
    "selu-stable": Claim(
        "SELU keeps the gradient stable: within a decade, however deep.",
        "Klambauer 2017",
        literature.selu_stable,
        {"decades of delta lost in all": Rule(-1, 1)},
        ("deep_defaults",),
        answer="holds only to 50 layers",
    ),
    "narrow-deep": Claim(
        "He's initialisation keeps gradients stable at any width.",
        "common reading of He 2015; denied by Hanin 2018",
        literature.narrow_deep,
        {"networks whose delta changes tenfold over 30 layers": below(0.05)},
        ("narrow_deep",),
        answer="holds only from width 64 on",
        least=150,
    ),
    "six-xi": Claim(
        "A tanh network trains if and only if it is shallower than six depth scales xi_c.",
        "Schoenholz 2017, fig. 5",
        literature.six_xi,
        {
            "networks solved that are shallower than six xi_c": above(0.75),
            "networks solved that are deeper than six xi_c": below(0.25),
        },
        ("six_xi",),
    ),
    "isometry": Claim(
        "Tanh with orthogonal kernels can be isometric, relu cannot.",
        "Pennington 2017",
        literature.isometry,
        {"spread added per layer, tanh": below(0.1), "spread added per layer, relu": above(0.5)},
        ("isometry_tanh", "isometry_relu"),
    ),
    "two-units": Claim(
        "XOR needs two hidden units.",
        "textbooks, after Minsky & Papert 1969",
        literature.two_units,
        {"share solved by one unit": below(0.02)},
        ("two_units",),
        answer="holds only for monotone activations",
        least=200,
    ),
    "fuzzy-default": Claim(
        "GELU and SiLU with He's initialisation are safe at depth: within a decade.",
        "common practice",
        literature.fuzzy_default,
        {"decades of delta lost in all": Rule(-1, 1)},
        ("deep_defaults",),
    ),
    "parity-hard": Claim(
        "Parity is hard for gradients.",
        "Shalev-Shwartz 2017",
        literature.parity_hard,
        {"share solved": below(0.5)},
        ("parity_hard",),
        answer="holds only at 10 bits",
    ),
    "residual-cures": Claim(
        "Skip connections cure the vanishing gradient.",
        "He 2016",
        remedies.residual_cures,
        {DECADES: below(note.LEVEL)},
        ("remedies",),
    ),
    "residual-scale": Claim(
        "Residual branches as they are explode with depth; scaled by 1/sqrt(depth) they do not.",
        "Hanin & Rolnick 2018; Zhang 2019",
        remedies.residual_scale,
        {
            f"{remedies.GAINED}, branches as they are": above(1),
            f"{remedies.GAINED}, branches over sqrt(depth)": below(1),
        },
        ("residual_scale",),
        answer="fails only for tanh at 16 layers, by a hair",
    ),
    "rezero": Claim(
        "A residual branch whose factor starts at 0 trains at any depth.",
        "Bachlechner 2020",
        remedies.rezero,
        {"share solved": above(0.9)},
        ("rezero",),
        least=100,
    ),
    "layernorm-cures": Claim(
        "Layer normalisation cures the vanishing gradient.",
        "common reading of Ba 2016",
        remedies.layernorm_cures,
        {DECADES: below(note.LEVEL)},
        ("remedies",),
        answer="fails only for sigmoid",
    ),
    "batchnorm-cures": Claim(
        "Batch normalisation keeps the gradient level.",
        "Ioffe & Szegedy 2015; denied by Yang 2019",
        remedies.batchnorm_cures,
        {DECADES: Rule(-note.LEVEL, note.LEVEL)},
        ("remedies",),
        answer="fails only for relu, where it explodes",
    ),
    "clipping-cures": Claim(
        "Clipping the gradient lets networks train whose gradient explodes.",
        "Pascanu 2013",
        remedies.clipping_cures,
        {
            "networks that learn, gradient clipped": above(0.5),
            "networks that learn, gradient as it is": below(0.5),
        },
        ("clipping",),
        answer="holds only in part: a small step does as much",
    ),
    "adam-ignores": Claim(
        "Adam makes the size of the gradient irrelevant.",
        "common practice",
        remedies.adam_ignores,
        {"share solved, vanishing gradients less level ones": above(-0.05)},
        ("adam_ignores",),
        answer="holds only for 4 layers",
    ),
}
"""Every claim by its id: the note's sentences, the literature's, and what is said to help."""
