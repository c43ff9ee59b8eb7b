// Reads messages by Go's own packages and writes what it found as JSON, one object a line.
//
// Standard input has a path on each line.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"strings"
)

type part struct {
	Type     string `json:"type"`
	Name     string `json:"name"`
	ID       string `json:"id"`
	Encoding string `json:"encoding"`
	Size     int    `json:"size"`
	Sha256   string `json:"sha256"`
	Text     string `json:"text"`
}

type address struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

type message struct {
	Path    string    `json:"path"`
	Error   string    `json:"error"`
	Subject string    `json:"subject"`
	Date    string    `json:"date"`
	ID      string    `json:"id"`
	From    []address `json:"from"`
	To      []address `json:"to"`
	Cc      []address `json:"cc"`
	Parts   []part    `json:"parts"`
}

type header interface{ Get(string) string }

func walk(h header, body io.Reader, found *[]part) error {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("content type: %w", err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		reader := multipart.NewReader(body, params["boundary"])
		for {
			inner, err := reader.NextRawPart()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("multipart: %w", err)
			}
			if err := walk(inner.Header, inner, found); err != nil {
				return err
			}
		}
	}
	one := part{Type: kind, Name: params["name"], ID: h.Get("Content-Id")}
	if shown := h.Get("Content-Disposition"); shown != "" {
		_, placed, err := mime.ParseMediaType(shown)
		if err != nil {
			return fmt.Errorf("disposition: %w", err)
		}
		if placed["filename"] != one.Name {
			return fmt.Errorf("two names: %q and %q", placed["filename"], one.Name)
		}
	}
	one.Encoding = h.Get("Content-Transfer-Encoding")
	switch one.Encoding {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "7bit", "8bit":
	default:
		return fmt.Errorf("encoding %q", one.Encoding)
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("content: %w", err)
	}
	digest := sha256.Sum256(content)
	one.Size, one.Sha256 = len(content), hex.EncodeToString(digest[:])
	if kind == "text/plain" || kind == "text/html" {
		one.Text = string(content)
	}
	*found = append(*found, one)
	return nil
}

func people(h mail.Header, name string) ([]address, error) {
	if h.Get(name) == "" {
		return nil, nil
	}
	list, err := h.AddressList(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var found []address
	for _, one := range list {
		found = append(found, address{one.Name, one.Address})
	}
	return found, nil
}

func read(path string) (found message, err error) {
	found.Path = path
	file, err := os.Open(path)
	if err != nil {
		return found, err
	}
	defer file.Close()
	parsed, err := mail.ReadMessage(file)
	if err != nil {
		return found, err
	}
	moment, err := parsed.Header.Date()
	if err != nil {
		return found, fmt.Errorf("date: %w", err)
	}
	found.Date = moment.UTC().Format("2006-01-02T15:04:05Z")
	found.ID = parsed.Header.Get("Message-Id")
	if found.Subject, err = new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject")); err != nil {
		return found, fmt.Errorf("subject: %w", err)
	}
	for name, list := range map[string]*[]address{"From": &found.From, "To": &found.To, "Cc": &found.Cc} {
		if *list, err = people(parsed.Header, name); err != nil {
			return found, err
		}
	}
	err = walk(parsed.Header, parsed.Body, &found.Parts)
	return found, err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		found, err := read(lines.Text())
		if err != nil {
			found.Error = err.Error()
		}
		if err := out.Encode(found); err != nil {
			os.Exit(1)
		}
	}
}
