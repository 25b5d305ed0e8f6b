package pdegym_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/trainer/dataset/pdegym"
)

func folder(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	return dir
}

func TestPartsInBothOrders(t *testing.T) {
	dir := folder(t, "data_0.nc", "data_1.nc", "data_10.nc", "data_11.nc", "data_2.nc", "data_3.nc", "data_4.nc", "data_5.nc", "data_6.nc",
		"data_7.nc", "data_8.nc", "data_9.nc", "README.md", ".data_3.nc", "data_3.nc.part")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "plain.nc"), 0o700))
	for order, want := range map[pdegym.Order][]string{
		pdegym.Numeric: {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"},
		pdegym.Text:    {"0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"},
	} {
		paths, err := pdegym.Parts(dir, order)
		require.NoError(t, err)
		for k := range want {
			want[k] = filepath.Join(dir, "data_"+want[k]+".nc")
		}
		require.Equal(t, want, paths, order)
	}
	require.Equal(t, "numeric text", pdegym.Numeric.String()+" "+pdegym.Text.String())
}

func TestPartsOfOneFile(t *testing.T) {
	for _, name := range []string{"CE-RP.nc", "data_0.h5"} {
		dir := folder(t, name)
		paths, err := pdegym.Parts(dir, pdegym.Numeric)
		require.NoError(t, err)
		require.Equal(t, []string{filepath.Join(dir, name)}, paths)
	}
}

func TestPartsRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		says  string
	}{
		"nothing":      {nil, " holds no file that ends in .nc, .h5 or .hdf5; download PDEGym's files into it, or name another folder"},
		"other files":  {[]string{"data_0.npy"}, " holds no file that ends in .nc, .h5 or .hdf5;"},
		"a gap":        {[]string{"data_0.nc", "data_2.nc"}, " holds data_2.nc but not data_1.nc before it; download it, or name the files"},
		"no first":     {[]string{"data_1.nc", "data_2.nc"}, " holds data_1.nc but not data_0.nc before it;"},
		"far":          {[]string{"data_0.nc", "data_99999999999999999999999.nc"}, "not data_1.nc before it"},
		"twice":        {[]string{"data_0.nc", "data_1.nc", "data_01.nc"}, " holds data_01.nc and data_1.nc, two files of one number; move one of them away"},
		"two families": {[]string{"CE-CRP_0.nc", "CE-RP_0.nc"}, " holds CE-CRP_0.nc and CE-RP_0.nc, which are not parts of one family; name the files instead of the folder"},
		"two formats":  {[]string{"data_0.nc", "data_1.h5"}, "which are not parts of one family"},
		"unnumbered":   {[]string{"data_0.nc", "more.nc"}, " holds data_0.nc, more.nc, and not all are numbered like data_0.nc; name the files in their order"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, test.files...)
			_, err := pdegym.Parts(dir, pdegym.Numeric)
			require.ErrorContains(t, err, "pdegym: "+dir)
			require.ErrorContains(t, err, test.says)
		})
	}
	_, err := pdegym.Parts(filepath.Join(t.TempDir(), "none"), pdegym.Numeric)
	require.ErrorContains(t, err, "no such file or directory; name a folder of PDEGym's files, or the files")
	_, err = pdegym.Parts(".", 7)
	require.EqualError(t, err, "pdegym: Order(7) is no order of files; use Numeric or Text")
}
