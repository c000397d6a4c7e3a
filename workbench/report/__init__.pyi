from .page import ranked_html as ranked_html, write_report as write_report
from .sheets import jpeg as jpeg, strip as strip
