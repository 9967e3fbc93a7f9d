# A package without files, and so without distfiles.
EAPI=8

DESCRIPTION="Virtual for command-line pagers"
SLOT="0"
KEYWORDS="amd64"

RDEPEND="sys-apps/less"
