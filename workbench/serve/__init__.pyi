from .access import Access as Access
from .app import create_app as create_app
from .in_force import InForce as InForce
from .running import access_for as access_for, serve as serve
