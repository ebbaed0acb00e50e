import unittest

from shortener import codec


class EncodeTest(unittest.TestCase):
    def test_single_digits(self):
        self.assertEqual(codec.encode(0), "0")
        self.assertEqual(codec.encode(9), "9")
        self.assertEqual(codec.encode(10), "A")
        self.assertEqual(codec.encode(36), "a")
        self.assertEqual(codec.encode(61), "z")

    def test_digits_are_most_significant_first(self):
        self.assertEqual(codec.encode(63), "11")
        self.assertEqual(codec.encode(62 * 2 + 3), "23")
        self.assertEqual(codec.encode(1_000_000), "4C92")

    def test_code_grows_by_one_digit_at_every_power_of_the_base(self):
        for power in range(1, 11):
            with self.subTest(power=power):
                self.assertEqual(codec.encode(62**power - 1), "z" * power)
                self.assertEqual(codec.encode(62**power), "1" + "0" * power)
                self.assertEqual(codec.encode(62**power + 1), "1" + "0" * (power - 1) + "1")

    def test_negative_numbers_are_refused(self):
        with self.assertRaises(ValueError):
            codec.encode(-1)


class DecodeTest(unittest.TestCase):
    def test_known_codes(self):
        self.assertEqual(codec.decode("0"), 0)
        self.assertEqual(codec.decode("z"), 61)
        self.assertEqual(codec.decode("4C92"), 1_000_000)

    def test_reverses_encode(self):
        numbers = [*range(5000), 62**3, 2**31, 2**53 + 1, 2**63 - 1]
        for number in numbers:
            with self.subTest(number=number):
                self.assertEqual(codec.decode(codec.encode(number)), number)

    def test_text_that_is_no_code_is_refused(self):
        for text in ("", "ab-c", "a b", "é", "12\n"):
            with self.subTest(text=text):
                with self.assertRaises(ValueError):
                    codec.decode(text)


if __name__ == "__main__":
    unittest.main()
