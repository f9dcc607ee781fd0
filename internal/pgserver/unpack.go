package pgserver

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/ulikunitz/xz"
)

// unpack unpacks the server in the jar into a new folder. It refuses names that lead out of the folder.
func unpack(ctx context.Context, jar *os.File, folder string) error {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	packed, err := openPacked(jar)
	if err != nil {
		return err
	}
	defer packed.Close()
	unpacked, err := xz.NewReader(bufio.NewReaderSize(packed, 1<<16)) // the decoder reads byte by byte
	if err != nil {
		return err
	}
	files := tar.NewReader(unpacked)
	for {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = unpackFile(root, header, files)
		}
		if err != nil {
			return err
		}
	}
	// With a strict umask the user of the server could not enter the folders.
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return root.Chmod(name, 0o755)
	})
}

// openPacked opens the only .txz in the jar.
func openPacked(jar *os.File) (io.ReadCloser, error) {
	info, err := jar.Stat()
	if err != nil {
		return nil, err
	}
	files, err := zip.NewReader(jar, info.Size())
	if err != nil {
		return nil, err
	}
	for _, file := range files.File {
		if strings.HasSuffix(file.Name, ".txz") {
			return file.Open()
		}
	}
	return nil, errors.New("there is no .txz in the jar")
}

// unpackFile writes one file, folder or link.
func unpackFile(root *os.Root, header *tar.Header, content io.Reader) error {
	name := path.Clean(header.Name)
	if header.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return root.Link(path.Clean(header.Linkname), name)
	case tar.TypeReg:
		mode := fs.FileMode(0o644)
		if header.Mode&0o111 != 0 {
			mode = 0o755
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Chmod(mode), f.Close())
	}
	return fmt.Errorf("%s is neither a file nor a folder nor a link", header.Name)
}
