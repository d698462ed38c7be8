"""What is asserted in the tests' shared modules shows its values when it fails, as what is asserted in a test does."""

import pytest

pytest.register_assert_rewrite("tests")
