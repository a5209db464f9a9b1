package config

import _ "embed"

// Schema is the JSON Schema (draft 2020-12) of the Cluster document, for editors. It accepts what Parse and Validate accept,
// and refuses unknown fields, values of wrong types, and words and numbers that a field cannot have; what depends on
// several fields is Validate's alone to say. It is made of the types, their comments and validation's tables.
//
//go:generate go test -run ^TestSchemaIsUpToDate$ -update .
//go:embed schema.json
var Schema string
