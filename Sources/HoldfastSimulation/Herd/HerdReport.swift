/// What one kind of client did. Times are in milliseconds.
public struct HerdReport: Sendable {
    public let name: String
    public let formula: String
    /// Where the formula is stated.
    public let source: String
    public let settings: HerdSettings
    public let attempts: Int
    /// Attempts in the busiest 100 ms, wherever these begin.
    public let attemptsPeak: Int
    /// 99 of 100 windows of 100 ms from the event until all are back have no more than this.
    public let attemptsP99: Int
    /// Clients that knocked in the busiest 100 ms.
    public let knocksPeak: Int
    /// After the restart, when half, 95 % and all of the clients were back; `nil`: never while we watched.
    public let backHalf: Int?
    public let backMost: Int?
    public let backAll: Int?
    /// Clients that were not back in the end.
    public let lost: Int
    /// Attempts of each 100 ms from the event on.
    public let series: [Int]
    /// Clients that knocked in each of these.
    public let knocks: [Int]

    init(name: String, formula: String, source: String, settings: HerdSettings, record: HerdRecord) {
        self.name = name
        self.formula = formula
        self.source = source
        self.settings = settings
        self.attempts = record.total
        self.attemptsPeak = Self.peak(record.attempts)
        self.knocksPeak = Self.peak(record.knocks)
        self.series = Self.windows(record.attempts)
        self.knocks = Self.windows(record.knocks)
        let outage = settings.event == .drain ? 0 : settings.outage
        let back = record.back.filter { $0 >= 0 }.map { Int($0) - outage }.sorted()
        // Of all clients, not of those that came back.
        let rank = { (share: Double) in Int((share * Double(settings.clients)).rounded(.up)) - 1 }
        let time = { (share: Double) in back.indices.contains(rank(share)) ? back[rank(share)] : nil }
        self.backHalf = time(0.5)
        self.backMost = time(0.95)
        self.backAll = time(1)
        self.lost = settings.clients - back.count
        let windows = back.last.map { ($0 + outage) / HerdRecord.window + 1 } ?? self.series.count
        self.attemptsP99 = Self.quantile(0.99, of: self.series.prefix(windows).sorted()) ?? 0
    }

    public var attemptsPerClient: Double { Double(self.attempts) / Double(self.settings.clients) }
    /// Of the clients, in the busiest 100 ms.
    public var knocksShare: Double { Double(self.knocksPeak) / Double(self.settings.clients) }

    /// P4 (overview.md): at most 2 % of the clients knock in any 100 ms, or 200, if that is more.
    public var isSpread: Bool { self.knocksPeak <= self.settings.knocksMax }
    /// P4: 95 % are back in time.
    public var isSoon: Bool { self.backMost.map { $0 <= self.settings.backMax } ?? false }
    public var keepsPromise: Bool { self.isSpread && self.isSoon }

    private static func windows(_ grains: [Int32]) -> [Int] {
        let width = HerdRecord.window / HerdRecord.grain
        return stride(from: 0, to: grains.count, by: width).map { start in
            grains[start..<min(start + width, grains.count)].reduce(0) { $0 + Int($1) }
        }
    }

    private static func peak(_ grains: [Int32]) -> Int {
        let width = HerdRecord.window / HerdRecord.grain
        var (sum, peak) = (0, 0)
        for (index, count) in grains.enumerated() {
            sum += Int(count)
            if index >= width { sum -= Int(grains[index - width]) }
            peak = max(peak, sum)
        }
        return peak
    }

    private static func quantile(_ share: Double, of sorted: [Int]) -> Int? {
        sorted.isEmpty ? nil : sorted[min(sorted.count - 1, Int((share * Double(sorted.count)).rounded(.down)))]
    }
}
