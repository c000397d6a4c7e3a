from .freeing import Freed as Freed, Proposal as Proposal, free as free, propose as propose
from .items import Again as Again, DiskItem as DiskItem, plain_name as plain_name
from .looking import DiskLook as DiskLook, look_at_disk as look_at_disk
