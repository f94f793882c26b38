"""No objective at all: random signs, the yardstick of every attack on an explanation."""

from artlib.attacks.objectives.objective import Objective


class RandomSign(Objective):
    """x + eps s, s uniform in {-1, 1} for every value, drawn anew at every step (LENS, section 1).

    One step is the random perturbation of LENS; of more the one with the lowest criterion is kept, as of any attack.
    """

    blind = True

    def aim(self, before):
        """Nothing is fixed: a zero an image."""
        return before.new_zeros(len(before))
