# A tree is often ahead of a binhost: the binhost's older package must be taken all the same.
EAPI=8

DESCRIPTION="A file archival tool, newer than the one on the binhost"
LICENSE="metapackage"
SLOT="0"
KEYWORDS="amd64"

pkg_setup() {
	die "the ebuild was taken because it is newer"
}
