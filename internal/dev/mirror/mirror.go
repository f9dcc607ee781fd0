// Package mirror makes, for tests, an archive of PostgreSQL like those that internal/pgserver downloads: from the
// binaries that Debian's package has installed on this machine.
package mirror

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// debianFolder is the folder of the binaries in Debian. PostgreSQL finds its other files by relative paths, from
// lib/postgresql/N/bin to lib/postgresql/N/lib and share/postgresql/N, so the archive keeps these folders.
var debianFolder = regexp.MustCompile(`^/usr/(lib/postgresql/(\d+)/bin)$`)

// CanPack tells whether the binaries lie where Debian puts them. Others cannot be moved.
func CanPack(bin string) bool { return debianFolder.MatchString(bin) }

// launcher is a script in bin/ of the archive. It starts the program with the same name.
const launcher = `#!/bin/sh
root=$(cd "$(dirname "$0")/.." && pwd)
LD_LIBRARY_PATH=$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$root/%s/%s" "$@"
`

// programs are the programs that the published archives have in bin/.
var programs = []string{"initdb", "pg_ctl", "postgres"}

// Pack writes the jar with the server whose binaries are in the folder bin. With libraries it also has the shared
// libraries that the programs need, except those of the C library. It then runs on a machine of the same release of
// Debian on which nothing is installed.
func Pack(ctx context.Context, w io.Writer, bin string, libraries bool) error {
	parts := debianFolder.FindStringSubmatch(bin)
	if parts == nil {
		return fmt.Errorf("only PostgreSQL of a Debian package can be packed, not %s", bin)
	}
	jar := zip.NewWriter(w)
	packed, err := jar.CreateHeader(&zip.FileHeader{Name: "postgres.txz", Method: zip.Store})
	if err != nil {
		return err
	}
	// A small dictionary makes the archive large, but it is made quickly.
	compressed, err := xz.WriterConfig{DictCap: 1 << 16, BufSize: 1 << 16}.NewWriter(packed)
	if err != nil {
		return err
	}
	p := packer{tar.NewWriter(compressed)}
	folders := []string{"lib/postgresql/" + parts[2] + "/lib", "share/postgresql/" + parts[2]}
	for _, folder := range folders {
		if err := p.folder(folder); err != nil {
			return err
		}
	}
	for _, program := range programs {
		err := errors.Join(
			p.file(filepath.Join(bin, program), parts[1]+"/"+program),
			p.text("bin/"+program, fmt.Sprintf(launcher, parts[1], program)))
		if err != nil {
			return err
		}
	}
	if libraries {
		needed, err := neededLibraries(ctx, bin)
		if err != nil {
			return err
		}
		for _, library := range needed {
			if err := p.file(library, "lib/"+filepath.Base(library)); err != nil {
				return err
			}
		}
	}
	return errors.Join(p.Close(), compressed.Close(), jar.Close())
}

// packer writes files into the archive.
type packer struct{ *tar.Writer }

// folder packs a folder of /usr under the same name. Files that only compiled queries need are left out.
func (p packer) folder(name string) error {
	root := filepath.Join("/usr", name)
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{"bitcode", "pgxs", "man"}, entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || strings.HasPrefix(entry.Name(), "llvmjit"):
			return nil
		}
		return p.file(path, strings.TrimPrefix(path, "/usr/"))
	})
}

// file packs a file, or the file to which a link leads. A dead link is left out.
func (p packer) file(path, name string) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return p.write(name, int64(info.Mode().Perm()), content)
}

// text packs a script.
func (p packer) text(name, content string) error { return p.write(name, 0o755, []byte(content)) }

func (p packer) write(name string, mode int64, content []byte) error {
	err := p.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = p.Write(content)
	}
	return err
}

// libc are the libraries that every machine has in the version of its own release.
var libc = regexp.MustCompile(`/(ld-linux.*|lib(c|m|dl|rt|pthread|resolv)\.so.*)$`)

// neededLibraries lists the paths of the shared libraries that the programs need.
func neededLibraries(ctx context.Context, bin string) ([]string, error) {
	var args []string
	for _, program := range programs {
		args = append(args, filepath.Join(bin, program))
	}
	out, err := exec.CommandContext(ctx, "ldd", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd: %w", err)
	}
	var paths []string
	for line := range strings.Lines(string(out)) {
		// "	libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f3a5c600000)"
		_, found, _ := strings.Cut(line, " => ")
		if path, _, ok := strings.Cut(found, " ("); ok && !libc.MatchString(path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}
