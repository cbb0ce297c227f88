/// One member of ``Faults`` as text: its name, its values, what it does. The command line, scripts, JSON and the page
/// of the control server all read this list.
public struct FaultField: Sendable {
    public enum Kind: Sendable, Equatable {
        case number(ClosedRange<Int>, unit: String)
        case choice([String])
        /// One of the words or an HTTP status.
        case upgrade([String], statuses: ClosedRange<Int>)
        case isOn
    }

    public let name: String
    public let kind: Kind
    public let help: String
    private let read: @Sendable (Faults) -> String
    private let write: @Sendable (inout Faults, String) -> Bool

    /// The value as scripts write it.
    public func text(_ faults: Faults) -> String {
        self.read(faults)
    }

    /// - Throws: ``FaultsError`` if `text` is no value of this fault.
    public func set(_ faults: inout Faults, to text: String) throws(FaultsError) {
        guard self.write(&faults, text) else {
            throw FaultsError("\(self.name) must be \(self.values); it is \(quoted(text))")
        }
    }

    /// Whether the member, which Swift may set to anything, is in its range.
    func check(_ faults: Faults) throws(FaultsError) {
        var copy = faults
        try self.set(&copy, to: self.text(faults))
    }

    /// What it may be, in words.
    public var values: String {
        switch self.kind {
        case .number(let range, let unit):
            "a whole number of \(unit) from \(range.lowerBound) to \(range.upperBound)"
        case .choice(let words): "one of \(words.joined(separator: ", "))"
        case .upgrade(let words, let statuses):
            "one of \(words.joined(separator: ", ")), or a status from \(statuses.lowerBound) to \(statuses.upperBound)"
        case .isOn: "true or false"
        }
    }

    /// - Throws: ``FaultsError`` that names the nearest if there is none of that name.
    public static func named(_ name: some StringProtocol) throws(FaultsError) -> FaultField {
        if let field = Self.all.first(where: { $0.name == name }) { return field }
        throw FaultsError("there is no fault \(quoted(name))\(didYouMean(name, Self.all.map(\.name)))")
    }
}

// MARK: The kinds

extension FaultField {
    private static func number(
        _ name: String, _ range: ClosedRange<Int>, _ unit: String,
        _ member: any WritableKeyPath<Faults, Int> & Sendable, _ help: String
    ) -> FaultField {
        FaultField(name: name, kind: .number(range, unit: unit), help: help) {
            String($0[keyPath: member])
        } write: { faults, text in
            guard let value = Int(text), range.contains(value) else { return false }
            faults[keyPath: member] = value
            return true
        }
    }

    private static func directions(
        _ name: String, _ member: any WritableKeyPath<Faults, Directions> & Sendable, mayBeNone: Bool = true,
        _ help: String
    ) -> FaultField {
        let words = (mayBeNone ? ["none"] : []) + ["both", "to-server", "to-client"]
        return FaultField(name: name, kind: .choice(words), help: help) {
            $0[keyPath: member].name
        } write: { faults, text in
            guard words.contains(text), let value = Directions(name: text) else { return false }
            faults[keyPath: member] = value
            return true
        }
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String, _ member: any WritableKeyPath<Faults, Choice> & Sendable, _ help: String
    ) -> FaultField {
        FaultField(name: name, kind: .choice(Choice.allCases.map(\.rawValue)), help: help) {
            $0[keyPath: member].rawValue
        } write: { faults, text in
            guard let value = Choice(rawValue: text) else { return false }
            faults[keyPath: member] = value
            return true
        }
    }

    private static func isOn(
        _ name: String, _ member: any WritableKeyPath<Faults, Bool> & Sendable, _ help: String
    ) -> FaultField {
        FaultField(name: name, kind: .isOn, help: help) {
            String($0[keyPath: member])
        } write: { faults, text in
            guard let value = Bool(text) else { return false }
            faults[keyPath: member] = value
            return true
        }
    }
}

// MARK: The list

extension FaultField {
    /// In the order in which they are shown.
    public static let all: [FaultField] = cable + http + slowLines + ends + rest + whom

    private static let cable = [
        directions("cut", \.cut, "pull the cable: no byte, FIN or RST arrives in these directions"),
        choice("cut-packets", \.cutPackets, "what is sent during the cut is lost for good, or arrives after it"),
        choice("cut-reach", \.cutReach, "which connections the cut strikes"),
    ]

    private static let whom = [
        choice("reach", \.reach, "which connections the other faults strike, but for refuse"),
        choice(
            "traffic", \.traffic,
            "whether the faults from latency-ms to close-after-ms, and corrupt, strike all or upgraded connections"),
        directions(
            "directions", \.directions, mayBeNone: false,
            "where latency-ms, jitter-ms, bandwidth-bytes, drip-bytes and fin-delay-ms strike"),
    ]

    private static let slowLines = [
        number("latency-ms", 0...60_000, "ms", \.latencyMs, "everything takes so much longer, each way"),
        number(
            "jitter-ms", 0...60_000, "ms", \.jitterMs,
            "the latency is up to so much longer or shorter; the order is kept"),
        number(
            "bandwidth-bytes", 0...1_000_000_000, "bytes", \.bandwidthBytes,
            "at most so many bytes per second, each way and connection"),
        number("drip-bytes", 0...65_536, "bytes", \.dripBytes, "so many bytes at once, every drip-ms"),
        number("drip-ms", 1...60_000, "ms", \.dripMs, "the time between two drips"),
    ]

    private static let ends = [
        directions("drop-fin", \.dropFin, "a FIN is not passed on; a RST is"),
        number("fin-delay-ms", 0...3_600_000, "ms", \.finDelayMs, "a FIN takes so much longer"),
        number(
            "close-idle-ms", 0...86_400_000, "ms", \.closeIdleMs,
            "a connection that carries nothing for so long is closed"),
        number("close-after-ms", 0...86_400_000, "ms", \.closeAfterMs, "every connection is closed when it is so old"),
    ]

    private static let http = [
        upgrades,
        number(
            "buffer-bytes", 0...1_048_576, "bytes", \.bufferBytes,
            "a response is held back until it has so many bytes or ends"),
        isOn("duplicate-requests", \.duplicateRequests, "every request but upgrades reaches the server twice"),
    ]

    private static let rest = [
        directions("corrupt", \.corrupt, "a bit of one byte is turned: of the corrupt-byte'th"),
        number(
            "corrupt-byte", 1...1_000_000_000_000, "bytes", \.corruptByte,
            "which byte of a direction of a connection, from 1"),
        isOn("refuse", \.refuse, "the port is closed to new connections (ECONNREFUSED)"),
    ]

    private static let upgrades = {
        let words = UpgradeFault.words.map(\.0)
        let statuses = 200...599
        return FaultField(
            name: "upgrades", kind: .upgrade(words, statuses: statuses),
            help: "what becomes of requests to upgrade, such as WebSockets; other requests pass"
        ) {
            $0.upgrades.name
        } write: { faults, text in
            if let word = UpgradeFault.words.first(where: { $0.0 == text }) {
                faults.upgrades = word.1
                return true
            }
            guard let status = Int(text), statuses.contains(status) else { return false }
            faults.upgrades = .answer(status: status)
            return true
        }
    }()
}

extension UpgradeFault {
    fileprivate static let words: [(String, UpgradeFault)] = [
        ("pass", .pass), ("hang", .hang), ("reset", .reset), ("silent", .silent),
        ("only-to-server", .onlyToServer), ("only-to-client", .onlyToClient),
    ]

    /// As scripts write it.
    var name: String {
        if case .answer(let status) = self { return String(status) }
        return Self.words.first { $0.1 == self }?.0 ?? "pass"
    }
}
