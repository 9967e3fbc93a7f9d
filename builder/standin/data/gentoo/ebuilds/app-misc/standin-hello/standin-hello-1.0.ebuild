# A package that the stand-in's binhost lacks, so that it is built from source.
EAPI=8

DESCRIPTION="Greets, with a patch and a file of a USE flag, to be built from source"
HOMEPAGE="https://example.org/"
SRC_URI="
	https://example.org/${P}.tar
	polite? ( https://example.org/${PN}-polite-1.tar )
"

LICENSE="metapackage"
SLOT="0"
KEYWORDS="amd64"
IUSE="polite"

RDEPEND="
	app-shells/bash
	virtual/pager
"
BDEPEND="sys-devel/patch"

PATCHES=( "${FILESDIR}/${P}-world.patch" )

src_compile() {
	sed -e "s/@VERSION@/${PV}/" hello.in >"${PN}" || die
}

src_install() {
	dobin "${PN}"
	insinto "/usr/share/${PN}"
	doins words
	use polite && doins "../${PN}-polite-1/polite"
	dosym "${PN}" /usr/bin/hello-standin
	keepdir "/var/lib/${PN}"
	dodoc README
}
