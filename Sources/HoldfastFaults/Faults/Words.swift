/// A word as it is repeated in an error: quoted, and never longer than an error should be.
func quoted(_ word: some StringProtocol) -> String {
    let limit = 60
    return word.count <= limit ? "\"\(word)\"" : "\"\(word.prefix(limit))…\" (\(word.utf8.count) bytes)"
}

/// "; did you mean …?" if one of `words` is near, else the list of them.
func didYouMean(_ word: some StringProtocol, _ words: [String]) -> String {
    let asked = word.prefix(60).lowercased().replacing("_", with: "-")
    let nearest = words.min { editDistance(asked, $0) < editDistance(asked, $1) }
    if let nearest, editDistance(asked, nearest) <= 1 + asked.count / 3 {
        return ": did you mean \"\(nearest)\"?"
    }
    return "; there are \(words.joined(separator: ", "))"
}

/// How many letters must be put in, taken out or replaced (Levenshtein).
private func editDistance(_ one: String, _ other: String) -> Int {
    let other = Array(other)
    var row = Array(0...other.count)
    for (line, letter) in one.enumerated() {
        var diagonal = row[0]
        row[0] = line + 1
        for column in other.indices {
            let replaced = diagonal + (letter == other[column] ? 0 : 1)
            diagonal = row[column + 1]
            row[column + 1] = min(replaced, row[column] + 1, diagonal + 1)
        }
    }
    return row[other.count]
}
