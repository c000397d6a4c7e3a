from . import plots as plots
from .page import ranked_html as ranked_html, write_report as write_report
from .plots import heat_maps as heat_maps
from .sheets import jpeg as jpeg, sheet as sheet, strip as strip
