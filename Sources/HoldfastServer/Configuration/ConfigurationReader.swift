import Yams

/// One thing that is wrong with a configuration.
public struct ConfigurationIssue: Sendable, Equatable, CustomStringConvertible {
    /// Where it stands: `FILE:LINE`, or the name of an environment variable.
    public let place: String
    public let text: String
    /// Line in the file, if it stands there.
    let line: Int?

    init(place: String, line: Int? = nil, text: String) {
        self.place = line.map { "\(place):\($0)" } ?? place
        self.line = line
        self.text = text
    }

    public var description: String { "\(self.place): \(self.text)" }
}

/// A configuration that cannot be used, with everything that is wrong with it.
public struct ConfigurationError: Error, CustomStringConvertible {
    public let issues: [ConfigurationIssue]

    public var description: String { self.issues.map(\.description).joined(separator: "\n") }
}

/// Reads one mapping of the file, key by key, and lets the environment override each. Remembers which keys it was asked
/// for, so that those nobody asked for are known to be wrong.
final class ConfigurationReader {
    private let file: String
    private let node: Node.Mapping?
    private let path: [String]
    private let environment: [String: String]
    /// Where the section begins, for one without keys; `nil` if the file has no such section.
    private let line: Int?
    private var known: [String] = []
    /// The variables of all keys that were asked for, those of sections included.
    private(set) var variables: Set<String> = []
    /// Keys that SocketShark has or that a later version will have, with what to say about them.
    private var notYet: [String: String] = [:]
    private(set) var issues: [ConfigurationIssue] = []

    init(
        file: String,
        node: Node.Mapping?,
        path: [String] = [],
        environment: [String: String],
        line: Int? = nil
    ) {
        self.file = file
        self.node = node
        self.path = path
        self.environment = environment
        self.line = line
    }

    private func name(_ key: String) -> String { (self.path + [key]).joined(separator: ".") }

    /// `ws_ping.interval` is overridden by `HOLDFAST_WS_PING_INTERVAL`.
    private func variable(_ key: String) -> String {
        "HOLDFAST_"
            + (self.path + [key]).joined(separator: "_").uppercased()
            .map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined()
    }

    private func issue(at node: Node, _ text: String) -> ConfigurationIssue {
        ConfigurationIssue(place: self.file, line: node.mark?.line ?? 1, text: text)
    }

    /// Complains about a key where it stands; one that is missing, where its section begins.
    func complain(_ key: String, _ text: String) {
        let text = "\(self.name(key)): \(text)"
        let variable = self.variable(key)
        if self.environment[variable] != nil {
            self.issues.append(ConfigurationIssue(place: variable, text: text))
        } else {
            let line = self.node?[key]?.mark?.line ?? self.node?.keys.first?.mark?.line ?? self.line
            self.issues.append(ConfigurationIssue(place: self.file, line: line, text: text))
        }
    }

    /// The text of a scalar, from the environment or the file; `nil` where neither has it or the file says `null`.
    private func scalar(_ key: String) -> String? {
        self.ask(key)
        if let text = self.environment[self.variable(key)] { return text }
        guard let node = self.node?[key] else { return nil }
        guard let scalar = node.scalar else {
            self.complain(key, "must be a single value, not a \(node.mapping != nil ? "mapping" : "list")")
            return nil
        }
        if scalar.style == .plain, ["", "~", "null", "Null", "NULL"].contains(scalar.string) { return nil }
        return scalar.string
    }

    func string(_ key: String) -> String? { self.scalar(key) }

    func integer(_ key: String, _ value: inout Int, in range: ClosedRange<Int>) {
        guard let text = self.scalar(key) else { return }
        guard let number = Int(text.replacing("_", with: "")) else {
            return self.complain(key, "must be a whole number, but is \"\(text)\"")
        }
        guard range.contains(number) else {
            return self.complain(key, "must be from \(range.lowerBound) to \(range.upperBound), but is \(number)")
        }
        value = number
    }

    /// Seconds or a rate.
    func number(_ key: String, _ value: inout Double, in range: ClosedRange<Double>) {
        guard let text = self.scalar(key) else { return }
        guard let number = Double(text), number.isFinite else {
            return self.complain(key, "must be a number, but is \"\(text)\"")
        }
        guard range.contains(number) else {
            return self.complain(key, "must be from \(range.lowerBound) to \(range.upperBound), but is \(text)")
        }
        value = number
    }

    /// A number that may be switched off: `null`, `false` and `0` mean none, as in SocketShark.
    func optionalNumber(_ key: String, _ value: Double?, in range: ClosedRange<Double>) -> Double? {
        guard self.environment[self.variable(key)] != nil || self.node?[key] != nil else {
            self.ask(key)
            return value
        }
        guard let text = self.scalar(key), !["", "false", "no", "off"].contains(text.lowercased()), Double(text) != 0
        else { return nil }
        var number = value ?? range.lowerBound
        self.number(key, &number, in: range)
        return number
    }

    /// The address of a service.
    /// - Parameter isGate: without it more would be allowed, so that a key without a value is taken for a mistake.
    func url(_ key: String, isGate: Bool = false, _ use: (ServiceURL) -> Void) {
        guard let text = self.scalar(key) else {
            if isGate, self.node?[key]?.null != nil {
                self.complain(key, "is empty; leave the key out if nobody is to be asked")
            }
            return
        }
        // Not quoted: it may have a password in it.
        guard let url = ServiceURL(text) else {
            return self.complain(key, "must be an address such as http://host/path")
        }
        use(url)
    }

    /// Complains that a key is missing, where its section begins.
    func require(_ key: String) {
        self.complain(key, "is missing")
    }

    func boolean(_ key: String, _ value: inout Bool) {
        guard let text = self.scalar(key) else { return }
        switch text.lowercased() {
        case "true", "yes", "on", "1": value = true
        case "false", "no", "off", "0": value = false
        default: self.complain(key, "must be true or false, but is \"\(text)\"")
        }
    }

    func choice(_ key: String, _ value: inout String, of choices: [String]) {
        guard let text = self.scalar(key) else { return }
        guard choices.contains(text.lowercased()) else {
            let nearest = Nearest.of(text.lowercased(), in: choices).map { "; did you mean \"\($0)\"?" } ?? ""
            return self.complain(key, "must be one of \(choices.joined(separator: ", ")), but is \"\(text)\"\(nearest)")
        }
        value = text.lowercased()
    }

    /// A list of strings; in the environment they are separated by commas.
    func strings(_ key: String, _ value: inout [String]) {
        self.ask(key)
        if let text = self.environment[self.variable(key)] {
            value = text.split(separator: ",").map { String($0).trimming(" ") }
            return
        }
        guard let node = self.node?[key], node.null == nil else { return }
        guard let sequence = node.sequence else { return self.complain(key, "must be a list") }
        value = sequence.compactMap { element in
            guard let scalar = element.scalar else {
                self.complain(key, "must be a list of single values")
                return nil
            }
            return scalar.string
        }
    }

    /// A mapping with keys of its own.
    func section(_ key: String, _ read: (ConfigurationReader) -> Void) {
        self.known.append(key)
        let node = self.node?[key]
        if let node, node.mapping == nil, node.null == nil {
            return self.complain(key, "must be a mapping of keys to values")
        }
        self.read(
            ConfigurationReader(
                file: self.file, node: node?.mapping, path: self.path + [key], environment: self.environment,
                line: node?.mark?.line ?? self.line
            ), read)
    }

    /// A mapping that is there or not; one that is empty is there.
    /// - Parameter other: a key that begins with this one, whose variables do not speak for it.
    func optionalSection(_ key: String, not other: String? = nil, _ read: (ConfigurationReader) -> Void) {
        let prefix = self.variable(key) + "_"
        let isInEnvironment = self.environment.keys.contains { name in
            name.hasPrefix(prefix) && !(other.map { name.hasPrefix(self.variable($0) + "_") } ?? false)
        }
        guard isInEnvironment || self.node?[key].map({ $0.null == nil }) == true else {
            return self.known.append(key)
        }
        self.section(key, read)
    }

    /// TLS: `true`, `false`, or a mapping.
    func tls(_ key: String, _ read: (ConfigurationReader) -> Void, plain: (Bool) -> Void) {
        if self.node?[key]?.mapping != nil { return self.section(key, read) }
        var isOn = false
        self.boolean(key, &isOn)
        plain(isOn)
    }

    /// A mapping whose keys are names that the operator chose.
    func entries(_ key: String, _ read: (String, ConfigurationReader) -> Void) {
        self.known.append(key)
        guard let node = self.node?[key], node.null == nil else { return }
        guard let mapping = node.mapping else { return self.complain(key, "must be a mapping of names to settings") }
        for (nameNode, value) in mapping {
            guard let name = nameNode.scalar?.string else { continue }
            if value.mapping == nil, value.null == nil {
                self.issues.append(
                    self.issue(at: value, "\(self.name(key)).\(name): must be a mapping of keys to values"))
                continue
            }
            self.read(
                ConfigurationReader(
                    file: self.file, node: value.mapping, path: self.path + [key, name], environment: self.environment,
                    line: nameNode.mark?.line
                )
            ) { read(name, $0) }
        }
    }

    private func read(_ reader: ConfigurationReader, _ read: (ConfigurationReader) -> Void) {
        read(reader)
        reader.finish()
        self.issues += reader.issues
        self.variables.formUnion(reader.variables)
    }

    private func ask(_ key: String) {
        self.known.append(key)
        self.variables.insert(self.variable(key))
    }

    /// Complains about variables that are one or two letters away from one that is known. Others may have variables of the
    /// same prefix: Kubernetes makes some up for a service of that name.
    func finishEnvironment() {
        for name in self.environment.keys.sorted() where name.hasPrefix("HOLDFAST_") && !self.variables.contains(name) {
            guard let nearest = Nearest.of(name, in: Array(self.variables), within: 2) else { continue }
            self.issues.append(
                ConfigurationIssue(place: name, text: "unknown variable; did you mean \"\(nearest)\"?"))
        }
    }

    /// Says of keys that exist elsewhere why they cannot be used, instead of "unknown".
    func notSupported(_ keys: [String], _ why: String) {
        for key in keys { self.notYet[key] = why }
    }

    /// Complains about every key of the file that nobody asked for.
    func finish() {
        guard let node = self.node else { return }
        for keyNode in node.keys {
            guard let key = keyNode.scalar?.string, !self.known.contains(key) else { continue }
            let text: String
            if let why = self.notYet[key] {
                text = why
            } else if let nearest = Nearest.of(key, in: self.known) {
                text = "unknown key; did you mean \"\(nearest)\"?"
            } else {
                text = "unknown key; known here: \(self.known.sorted().joined(separator: ", "))"
            }
            self.issues.append(self.issue(at: keyNode, "\(self.name(key)): \(text)"))
        }
    }
}

extension String {
    fileprivate func trimming(_ character: Character) -> String {
        var text = self[...]
        while text.first == character { text.removeFirst() }
        while text.last == character { text.removeLast() }
        return String(text)
    }
}

/// Finds the word that somebody probably meant.
enum Nearest {
    /// - Parameter limit: how many letters may differ; a third of the word, but at least two, unless given.
    static func of(_ word: String, in candidates: [String], within limit: Int? = nil) -> String? {
        let best = candidates.map { (word: $0, distance: Self.distance(word, $0)) }.min { $0.distance < $1.distance }
        guard let best, best.distance <= limit ?? max(2, word.count / 3) else { return nil }
        return best.word
    }

    /// Levenshtein's distance.
    private static func distance(_ left: String, _ right: String) -> Int {
        let right = Array(right)
        var row = Array(0...right.count)
        for (index, character) in left.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in right.indices {
                let substitution = diagonal + (character == right[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(substitution, row[column] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}
