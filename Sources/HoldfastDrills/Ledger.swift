/// What one client was given, in the order in which it came.
public enum Delivery: Sendable, Equatable {
    /// The event with this number.
    case message(UInt64)
    /// The client was told that something is missing here; the numbers are those of the gateway, where it gave any.
    case gap(after: UInt64?, next: UInt64?)
}

/// Judges what became of numbered events: exactly once and in order, or told as a gap.
public struct Ledger: Sendable, Equatable {
    /// Were accepted by the publisher, and neither came nor were told as a gap.
    public private(set) var lost: [UInt64] = []
    /// Did not come, but a gap stood in their place.
    public private(set) var told: [UInt64] = []
    /// Came again.
    public private(set) var doubled = 0
    /// Came for the first time behind one with a higher number.
    public private(set) var outOfOrder = 0
    /// Nobody has published this number.
    public private(set) var invented = 0
    /// A gap named a hole of another size than the one that was there.
    public private(set) var wrongGaps = 0

    /// - Parameters:
    ///   - deliveries: of one client.
    ///   - accepted: numbers that must have come.
    ///   - uncertain: numbers whose publication was not answered: they may have come or not.
    public init(_ deliveries: [Delivery], accepted: Set<UInt64>, uncertain: Set<UInt64> = []) {
        var seen = Set<UInt64>()
        var told = Set<UInt64>()
        var highest: UInt64?
        var gap: (after: UInt64?, next: UInt64?)?
        for delivery in deliveries {
            switch delivery {
            case .gap(let after, let next): gap = (after, next)
            case .message(let number):
                if let open = gap, let last = highest, number > last {
                    told.formUnion(last + 1..<number)
                    // An epoch that is new counts from another place: then the gateway names no numbers.
                    if let after = open.after, let next = open.next, next > after, next - after != number - last {
                        self.wrongGaps += 1
                    }
                    gap = nil
                }
                guard accepted.contains(number) || uncertain.contains(number) else {
                    self.invented += 1
                    continue
                }
                guard seen.insert(number).inserted else {
                    self.doubled += 1
                    continue
                }
                if let last = highest, number < last { self.outOfOrder += 1 }
                highest = max(highest ?? number, number)
            }
        }
        let missing = accepted.subtracting(seen)
        self.told = missing.intersection(told).sorted()
        self.lost = missing.subtracting(told).sorted()
    }

    /// Nothing lost, doubled, reordered or invented.
    public var isExactlyOnceOrTold: Bool {
        self.lost.isEmpty && self.doubled == 0 && self.outOfOrder == 0 && self.invented == 0 && self.wrongGaps == 0
    }
}
