"""q(z|x) and p(x|z) for Pixyz. The same source runs with this repository and with the published pixyz 0.3.3."""

from handwritten import add_decoder_layers, add_encoder_layers, decode, decode_logits, encode
from interleaved import Size
from torch import Tensor, nn

from pixyz.distributions import Bernoulli, Normal


class Encoder(Normal):
    def __init__(self, size: Size) -> None:
        super().__init__(var=["z"], cond_var=["x"], name="q")
        add_encoder_layers(self, size)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = encode(self, x)
        return {"loc": loc, "scale": scale}


class Decoder(Bernoulli):
    def __init__(self, size: Size) -> None:
        super().__init__(var=["x"], cond_var=["z"], name="p")
        add_decoder_layers(self, size)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"probs": decode(self, z)}


class DecoderOfLogits(Decoder):
    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"logits": decode_logits(self, z)}


def networks(size: Size, decoder: type[Decoder] = Decoder) -> nn.ModuleList:
    return nn.ModuleList([Encoder(size), decoder(size)])
