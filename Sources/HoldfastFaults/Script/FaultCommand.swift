/// One thing to do to a proxy, in the words of a script: `cut both`, `latency-ms 300`, `reset newest`.
public enum FaultCommand: Sendable, Equatable {
    case cut(Directions, CutPackets, Reach)
    /// Ends the cut only.
    case restore
    /// Ends all faults.
    case clear
    /// Values of ``Faults``, with their names; what they do not name stays.
    case set([Value])
    case reset(FaultProxy.Which)
    case halfClose(Directions, FaultProxy.Which)
    case closeAll

    public struct Value: Sendable, Equatable {
        public var name: String
        public var text: String
    }

    /// What a person may write, but for the names of ``FaultField``.
    static let words = ["cut", "restore", "clear", "reset", "half-close", "close-all"]

    /// - Throws: ``FaultsError`` that says what is wrong with `text`.
    public init(_ text: some StringProtocol) throws(FaultsError) {
        let words = String(text).split { $0 == " " || $0 == "\t" }.map(String.init)
        guard let verb = words.first else {
            throw FaultsError("there is nothing to do between two commas or at the end")
        }
        var rest = Arguments(verb: verb, words: Array(words.dropFirst()))
        switch verb {
        case "cut":
            let directions = rest.take { Directions(name: $0).flatMap { $0.isEmpty ? nil : $0 } } ?? .both
            self = .cut(
                directions, rest.take { CutPackets(rawValue: $0) } ?? .lost,
                rest.take { Reach(rawValue: $0) } ?? .everything)
        case "restore": self = .restore
        case "clear": self = .clear
        case "reset": self = .reset(rest.take { FaultProxy.Which(rawValue: $0) } ?? .all)
        case "half-close":
            guard let directions = rest.take({ Directions(name: $0).flatMap { $0.isEmpty ? nil : $0 } }) else {
                throw FaultsError("half-close must be followed by both, to-server or to-client")
            }
            self = .halfClose(directions, rest.take { FaultProxy.Which(rawValue: $0) } ?? .all)
        case "close-all": self = .closeAll
        default: self = .set([try Self.value(verb, &rest)])
        }
        try rest.finish()
    }

    private static func value(_ name: String, _ rest: inout Arguments) throws(FaultsError) -> Value {
        guard FaultField.all.contains(where: { $0.name == name }) else {
            throw FaultsError("there is no \(quoted(name))\(didYouMean(name, Self.words + FaultField.all.map(\.name)))")
        }
        let field = try FaultField.named(name)
        guard let text = rest.take({ $0 }) ?? (field.kind == .isOn ? "true" : nil) else {
            throw FaultsError("\(name) must be followed by \(field.values)")
        }
        var scratch = Faults()
        try field.set(&scratch, to: text)
        return Value(name: name, text: text)
    }

    /// Several, between commas. Values that follow each other are set together, since one may only be right with the
    /// other.
    ///
    /// - Throws: ``FaultsError``.
    static func list(_ text: some StringProtocol) throws(FaultsError) -> [FaultCommand] {
        var commands: [FaultCommand] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let command = try FaultCommand(part)
            if case .set(let more) = command, case .set(let values)? = commands.last {
                commands[commands.count - 1] = .set(values + more)
            } else {
                commands.append(command)
            }
        }
        return commands
    }
}

extension FaultCommand: CustomStringConvertible {
    public var description: String {
        switch self {
        case .cut(let directions, let packets, let reach):
            "cut \(directions.name) \(packets.rawValue) \(reach.rawValue)"
        case .restore: "restore"
        case .clear: "clear"
        case .set(let values): values.map { "\($0.name) \($0.text)" }.joined(separator: ", ")
        case .reset(let which): "reset \(which.rawValue)"
        case .halfClose(let directions, let which): "half-close \(directions.name) \(which.rawValue)"
        case .closeAll: "close-all"
        }
    }
}

/// The words behind a verb, each of which says by itself what it means.
private struct Arguments {
    let verb: String
    var words: [String]

    mutating func take<Value>(_ read: (String) -> Value?) -> Value? {
        for (index, word) in self.words.enumerated() {
            if let value = read(word) {
                self.words.remove(at: index)
                return value
            }
        }
        return nil
    }

    func finish() throws(FaultsError) {
        guard let word = self.words.first else { return }
        throw FaultsError("\(self.verb) does not know what \(quoted(word)) means")
    }
}

extension FaultProxy {
    /// - Returns: how many connections a deed struck; `nil` for standing faults.
    /// - Throws: as ``apply(_:)``.
    @discardableResult
    public func perform(_ command: FaultCommand) async throws -> Int? {
        switch command {
        case .cut(let directions, let packets, let reach): await self.cut(directions, packets: packets, reach: reach)
        case .restore: await self.restore()
        case .clear: try await self.apply(Faults())
        case .set(let values):
            try await self.change { faults in
                for value in values {
                    try FaultField.named(value.name).set(&faults, to: value.text)
                }
            }
        case .reset(let which): return await self.reset(which)
        case .halfClose(let directions, let which): return await self.halfClose(directions, which)
        case .closeAll: return await self.closeAll()
        }
        return nil
    }
}
