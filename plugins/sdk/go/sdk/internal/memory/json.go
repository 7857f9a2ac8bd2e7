package memory

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"wasmill.dev/sdk/internal/abi"
)

// depthMax is how deep JSON may be nested; deeper is no JSON.
const depthMax = 127

// span is a piece of a text.
type span struct{ start, end int }

// member of an object: its key with the quotes, and its value.
type member struct{ key, value span }

// scanner reads one JSON text. A method returns false where there is no JSON.
type scanner struct {
	text []byte
	at   int
	// deepest is how deep the nesting went.
	depth, deepest int
}

// valid tells whether a text is one JSON value with nothing but space around it; where it is, and how deep.
func valid(text []byte) (value span, depth int, ok bool) {
	if !utf8.Valid(text) {
		return span{}, 0, false
	}
	s := scanner{text: text}
	s.space()
	start := s.at
	if !s.value() {
		return span{}, 0, false
	}
	value = span{start, s.at}
	s.space()
	return value, s.deepest, s.at == len(text)
}

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) value() bool {
	switch c := s.peek(); {
	case c == '{':
		return s.container('}', func() bool { _, ok := s.member(); return ok })
	case c == '[':
		return s.container(']', s.value)
	case c == '"':
		return s.string()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	return s.word("true") || s.word("false") || s.word("null")
}

func (s *scanner) word(word string) bool {
	if !strings.HasPrefix(string(s.text[s.at:min(len(s.text), s.at+len(word))]), word) {
		return false
	}
	s.at += len(word)
	return true
}

// container reads what is between brackets, separated by commas.
func (s *scanner) container(end byte, element func() bool) bool {
	s.depth++
	s.deepest = max(s.deepest, s.depth)
	if s.depth > depthMax {
		return false
	}
	s.at++
	s.space()
	if s.peek() == end {
		s.at++
		s.depth--
		return true
	}
	for {
		s.space()
		if !element() {
			return false
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
		case end:
			s.at++
			s.depth--
			return true
		default:
			return false
		}
	}
}

func (s *scanner) member() (member, bool) {
	key := span{start: s.at}
	if s.peek() != '"' || !s.string() {
		return member{}, false
	}
	key.end = s.at
	s.space()
	if s.peek() != ':' {
		return member{}, false
	}
	s.at++
	s.space()
	value := span{start: s.at}
	if !s.value() {
		return member{}, false
	}
	value.end = s.at
	return member{key, value}, true
}

func (s *scanner) string() bool {
	s.at++
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			return true
		case c < 0x20:
			return false
		case c == '\\':
			escaped := s.peek()
			s.at++
			if escaped == 'u' {
				for range 4 {
					if !hexadecimal(s.peek()) {
						return false
					}
					s.at++
				}
			} else if escaped == 0 || strings.IndexByte(`"\/bfnrt`, escaped) < 0 {
				return false
			}
		}
	}
	return false
}

func hexadecimal(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (s *scanner) digits() bool {
	start := s.at
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.at++
	}
	return s.at > start
}

func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		s.at++
		if !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		return s.digits()
	}
	return true
}

// members of the object at a place of a text that is valid.
func members(text []byte, object span) []member {
	var found []member
	s := scanner{text: text, at: object.start}
	s.container('}', func() bool {
		m, ok := s.member()
		found = append(found, m)
		return ok
	})
	return found
}

func isObject(text []byte, value span) bool { return text[value.start] == '{' }

// unescape is what a JSON string says. A surrogate without its other half becomes U+FFFD.
func unescape(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	var text strings.Builder
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		if c != '\\' {
			text.WriteByte(c)
			continue
		}
		i++
		switch inner[i] {
		case 'b':
			text.WriteByte('\b')
		case 'f':
			text.WriteByte('\f')
		case 'n':
			text.WriteByte('\n')
		case 'r':
			text.WriteByte('\r')
		case 't':
			text.WriteByte('\t')
		case 'u':
			r := unit(inner[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if i+6 < len(inner) && inner[i+1] == '\\' && inner[i+2] == 'u' {
					pair = utf16.DecodeRune(r, unit(inner[i+3:]))
				}
				if pair != utf8.RuneError {
					i += 6
				}
				r = pair
			}
			text.WriteRune(r)
		default:
			text.WriteByte(inner[i])
		}
	}
	return text.String()
}

func unit(digits []byte) rune {
	value, _ := strconv.ParseUint(string(digits[:4]), 16, 16)
	return rune(value)
}

// quote writes a text as JSON.
func quote(text []byte) []byte {
	quoted := []byte{'"'}
	for _, c := range text {
		if at := strings.IndexByte("\"\\\b\f\n\r\t", c); at >= 0 {
			quoted = append(quoted, '\\', `"\bfnrt`[at])
		} else if c < 0x20 {
			quoted = append(quoted, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		} else {
			quoted = append(quoted, c)
		}
	}
	return append(quoted, '"')
}

// integer is the number that a JSON number is exactly.
func integer(number string) (int64, bool) {
	digits, negative := strings.CutPrefix(number, "-")
	exponent := int64(0)
	if at := strings.IndexAny(digits, "eE"); at >= 0 {
		written, err := strconv.ParseInt(strings.TrimPrefix(digits[at+1:], "+"), 10, 64)
		// Beyond all numbers that a record can hold, in the direction that it points to.
		if err != nil || written > 1<<40 || written < -1<<40 {
			written = 1 << 40
			if digits[at+1] == '-' {
				written = -written
			}
		}
		exponent, digits = written, digits[:at]
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	exponent -= int64(len(fraction))
	digits = strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	exponent += int64(len(digits) - len(short))
	switch {
	case short == "":
		return 0, true
	case exponent < 0 || int64(len(short))+exponent > 19:
		return 0, false
	}
	short += strings.Repeat("0", int(exponent))
	if negative {
		short = "-" + short
	}
	value, err := strconv.ParseInt(short, 10, 64)
	return value, err == nil
}

// writeFloat is the shortest text that reads as the same number, with a point or an exponent.
func writeFloat(value float64) []byte {
	text := strconv.FormatFloat(value, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(text, "e")
	power, _ := strconv.Atoi(exponent)
	if power < -5 || power > 15 {
		sign := ""
		if power > 0 {
			sign = "+"
		}
		return []byte(mantissa + "e" + sign + strconv.Itoa(power))
	}
	text = strconv.FormatFloat(value, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return []byte(text)
}

// kind is the state in which something that wants a value beginning with one of these letters finds this one.
func kind(value []byte, letters string) byte {
	switch {
	case value == nil:
		return abi.Missing
	case value[0] == 'n':
		return abi.Null
	case letters == "" || strings.IndexByte(letters, value[0]) >= 0:
		return abi.Value
	}
	return abi.Other
}
