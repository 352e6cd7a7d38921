// Package packages tests what make pkg makes: the .deb, .rpm, .apk and .tar.gz. make
// test-pkg runs it; make test builds no packages.
package packages
