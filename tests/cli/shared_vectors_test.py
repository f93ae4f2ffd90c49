"""Every folder with golden vectors below ../shared/vectors: `waveq verify` finds no differing element. Prints N of N."""
import support


class SharedVectors(support.Case):
    def test_every_folder_verifies(self):
        support.need_binary()
        root = support.need(support.SHARED / "vectors")
        folders = sorted(f.parent for f in root.rglob("outputs.npz"))
        failed = [f for f in folders if support.waveq("verify", f, "-q").code != 0]
        print(f"{len(folders) - len(failed)} of {len(folders)} folders verify")
        self.assertTrue(folders)
        self.assertEqual(failed, [])


if __name__ == "__main__":
    support.main()
