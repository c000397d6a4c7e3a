from .benchmark import Benchmark as Benchmark, StageSpeed as StageSpeed, benchmark as benchmark
from .cards import CARDS as CARDS, CardModel as CardModel, card_named as card_named, same_card as same_card
from .disk import (
    DiskItem as DiskItem,
    DiskLook as DiskLook,
    Freed as Freed,
    Proposal as Proposal,
    free as free,
    look_at_disk as look_at_disk,
    plain_name as plain_name,
    propose as propose,
)
from .elsewhere import Linked as Linked, link_all as link_all
from .findings import Finding as Finding
from .health import examine as examine
from .pulled import (
    Checked as Checked,
    missing as missing,
    pulled_files as pulled_files,
    there as there,
    verify_files as verify_files,
    verify_weight as verify_weight,
)
from .pulling import (
    PullPlan as PullPlan,
    check_pulled as check_pulled,
    plan_pull as plan_pull,
    pull as pull,
    weights_for as weights_for,
)
from .registry import (
    REGISTRY as REGISTRY,
    Weight as Weight,
    WeightFile as WeightFile,
    check_known as check_known,
    needed as needed,
    weight_named as weight_named,
)
