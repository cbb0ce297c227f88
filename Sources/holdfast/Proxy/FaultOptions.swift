import ArgumentParser
import HoldfastFaults

/// A flag for each fault. Their values, ranges and texts are those of ``FaultField``.
struct FaultOptions: ParsableArguments {
    @Option(name: .long, help: Self.help("cut")) var cut: String?
    @Option(name: .long, help: Self.help("cut-packets")) var cutPackets: String?
    @Option(name: .long, help: Self.help("cut-reach")) var cutReach: String?
    @Option(name: .long, help: Self.help("reach")) var reach: String?
    @Option(name: .long, help: Self.help("traffic")) var traffic: String?
    @Option(name: .long, help: Self.help("directions")) var directions: String?
    @Option(name: .long, help: Self.help("latency-ms")) var latencyMs: String?
    @Option(name: .long, help: Self.help("jitter-ms")) var jitterMs: String?
    @Option(name: .long, help: Self.help("bandwidth-bytes")) var bandwidthBytes: String?
    @Option(name: .long, help: Self.help("drip-bytes")) var dripBytes: String?
    @Option(name: .long, help: Self.help("drip-ms")) var dripMs: String?
    @Option(name: .long, help: Self.help("drop-fin")) var dropFin: String?
    @Option(name: .long, help: Self.help("fin-delay-ms")) var finDelayMs: String?
    @Option(name: .long, help: Self.help("close-idle-ms")) var closeIdleMs: String?
    @Option(name: .long, help: Self.help("close-after-ms")) var closeAfterMs: String?
    @Option(name: .long, help: Self.help("upgrades")) var upgrades: String?
    @Option(name: .long, help: Self.help("buffer-bytes")) var bufferBytes: String?
    @Flag(name: .long, help: Self.help("duplicate-requests")) var duplicateRequests = false
    @Option(name: .long, help: Self.help("corrupt")) var corrupt: String?
    @Option(name: .long, help: Self.help("corrupt-byte")) var corruptByte: String?
    @Flag(name: .long, help: Self.help("refuse")) var refuse = false

    /// - Throws: a `ValidationError` that names the flag.
    func faults() throws -> Faults {
        var faults = Faults()
        for (name, text) in self.given {
            guard let text else { continue }
            do {
                try FaultField.named(name).set(&faults, to: text)
            } catch {
                throw ValidationError("--\(error).")
            }
        }
        do {
            try faults.validate()
        } catch {
            throw ValidationError("--\(error).")
        }
        return faults
    }

    private var given: KeyValuePairs<String, String?> {
        [
            "cut": self.cut, "cut-packets": self.cutPackets, "cut-reach": self.cutReach, "reach": self.reach,
            "traffic": self.traffic, "directions": self.directions, "latency-ms": self.latencyMs,
            "jitter-ms": self.jitterMs, "bandwidth-bytes": self.bandwidthBytes, "drip-bytes": self.dripBytes,
            "drip-ms": self.dripMs, "drop-fin": self.dropFin, "fin-delay-ms": self.finDelayMs,
            "close-idle-ms": self.closeIdleMs, "close-after-ms": self.closeAfterMs, "upgrades": self.upgrades,
            "buffer-bytes": self.bufferBytes, "duplicate-requests": self.duplicateRequests ? "true" : nil,
            "corrupt": self.corrupt, "corrupt-byte": self.corruptByte, "refuse": self.refuse ? "true" : nil,
        ]
    }

    private static func help(_ name: String) -> ArgumentHelp {
        guard let field = FaultField.all.first(where: { $0.name == name }) else {
            preconditionFailure("no fault \(name)")
        }
        let sentence = field.help.prefix(1).uppercased() + field.help.dropFirst()
        let value: String
        switch field.kind {
        case .number(let range, let unit):
            value = unit
            return ArgumentHelp("\(sentence) (\(range.lowerBound) to \(range.upperBound)).", valueName: value)
        case .choice(let words): value = words.joined(separator: "|")
        case .upgrade(let words, let statuses):
            value = words.joined(separator: "|") + "|\(statuses.lowerBound)-\(statuses.upperBound)"
        case .isOn: return ArgumentHelp("\(sentence).")
        }
        return ArgumentHelp("\(sentence).", valueName: value)
    }
}
