import io
import unittest

import export_customers


class ExportTest(unittest.TestCase):
    def test_only_the_wanted_columns_are_copied(self):
        source = io.StringIO("customer_id,email,phone,language,newsletter\n1,,+00 0000 0001,en,yes\n")
        target = io.StringIO()
        self.assertEqual(export_customers.export(source, target), 1)
        self.assertEqual(target.getvalue(), "customer_id,email,language,newsletter\n1,,en,yes\n")


if __name__ == "__main__":
    unittest.main()
