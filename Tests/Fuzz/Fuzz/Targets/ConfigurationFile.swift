@testable import HoldfastServer

extension FuzzTarget {
    static let configuration = FuzzTarget(
        name: "configuration",
        about: "configuration files and variables: a configuration within its bounds, or issues that name key and line",
        maxBytes: 4096
    ) { bytes in
        // libyaml's text is UTF-8; other bytes never come so far.
        guard let text = String(validating: bytes, as: UTF8.self) else { return }
        let variables = Self.variables(in: text)
        let first = Self.load(text, variables)
        let second = Self.load(text, variables)
        switch (first, second) {
        case (.success(let first), .success(let second)):
            require(first == second, "the same file gives two configurations")
            Self.check(first)
        case (.failure(let first), .failure(let second)):
            requireSame(first.description, second.description, "the same file gives two errors")
            require(!first.issues.isEmpty, "an error without an issue")
            for issue in first.issues { Self.check(issue, lines: Self.lineCount(text), variables) }
        default: fatalError("the same file is taken and refused")
        }
    }

    /// A comment such as `#env HOLDFAST_WS_PORT=1` sets a variable.
    private static func variables(in text: String) -> [String: String] {
        var variables: [String: String] = [:]
        for line in text.split(separator: "\n") where line.hasPrefix("#env HOLDFAST_") {
            let parts = line.dropFirst(5).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if parts.count == 2 { variables[String(parts[0])] = String(parts[1]) }
        }
        return variables
    }

    private static func load(
        _ text: String,
        _ variables: [String: String]
    ) -> Result<Configuration, ConfigurationError> {
        var configuration = Configuration()
        do throws(ConfigurationError) {
            try configuration.load(yaml: text, file: "holdfast.yaml", environment: variables)
            return .success(configuration)
        } catch {
            return .failure(error)
        }
    }

    /// YAML ends lines with CR, LF, CRLF, NEL, LS or PS; behind the last one there is one more.
    private static func lineCount(_ text: String) -> Int {
        1 + text.unicodeScalars.count { "\n\r\u{85}\u{2028}\u{2029}".unicodeScalars.contains($0) }
    }

    private static func check(_ issue: ConfigurationIssue, lines: Int, _ variables: [String: String]) {
        require(!issue.text.isEmpty, "an issue without words")
        if variables[issue.place] != nil { return }
        guard let line = issue.line else {
            // The section is there because of a variable only.
            let section = issue.text.prefix { $0 != ":" }.split(separator: ".").dropLast().joined(separator: "_")
            let isOfVariable = variables.keys.contains { $0.hasPrefix("HOLDFAST_\(section.uppercased())_") }
            return require(!section.isEmpty && isOfVariable, "an issue without a line: \(issue)")
        }
        require((1...(lines + 1)).contains(line), "line \(line) of \(lines): \(issue)")
        requireSame(issue.place, "holdfast.yaml:\(line)", "where the issue stands")
        let isOfFile = issue.text.hasPrefix("not YAML: ") || issue.text.hasPrefix("the file must be")
        require(isOfFile || issue.text.contains(": "), "an issue that names no key: \(issue)")
    }

    private static func check(_ configuration: Configuration) {
        let limits = configuration.limits
        require((0...65535).contains(configuration.port), "port \(configuration.port)")
        require((0...1024).contains(configuration.threads), "\(configuration.threads) threads")
        require((128...(1 << 30)).contains(limits.messageBytes), "message_bytes \(limits.messageBytes)")
        require((2...100_000).contains(limits.json.depth), "json_depth \(limits.json.depth)")
        require((0...86400).contains(configuration.sessionTTL), "session_ttl \(configuration.sessionTTL)")
        require(configuration.sessionDigits.allSatisfy { $0 < 16 }, "session_digits \(configuration.sessionDigits)")
        require(configuration.prefix.isEmpty || configuration.prefix.hasPrefix("/"), "prefix \(configuration.prefix)")
        require((configuration.api.key?.utf8.count ?? 16) >= 16, "a short key")
        require(configuration.tls == nil, "TLS files that cannot be read")
        for (name, service) in configuration.services {
            require(!name.isEmpty && !name.contains("."), "a service called \"\(name)\"")
            if let period = service.renewalPeriod { require(service.renewalJitter <= period, "a long jitter") }
            for url in service.callbacks.values {
                require(ServiceURL(url.text)?.text == url.text, "an address that is none when read again: \(url)")
            }
        }
        _ = configuration.publishingRules
    }
}
