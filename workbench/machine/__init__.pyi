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
