"""What a contract test raises."""


class ContractError(AssertionError):
    """A detector breaks the contract; the message says how, in one sentence."""
