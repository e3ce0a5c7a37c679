// The kinds of characters that Python's str.is...() ask for, from the tables of utf8proc. Bytes
// that are no characters (see Char) are of no kind.
#pragma once

namespace pith::jinja {

bool is_cased(char32_t code);
bool is_lower_case(char32_t code);
bool is_upper_case(char32_t code);
bool is_printable(char32_t code);
bool is_letter(char32_t code);
bool is_decimal(char32_t code);
int decimal_value(char32_t code);     // of a decimal digit
bool is_digit_like(char32_t code);    // digits that are raised, lowered, in circles or brackets too
bool is_numeric_like(char32_t code);  // and fractions, Roman numerals, Han numerals
bool is_alphanumeric(char32_t code);
bool is_word_char(char32_t code);  // \w of Python's re

}  // namespace pith::jinja
