"""The printed tables, copied a second time, against artlib.paper: Table 1 line by line, the others by their values."""

import pytest
import yaml

from artlib import paper

PRINTED = """
CIFAR-10 Natural 40.25 49.17 95.26 0.
PGD-10 69.00 72.27 87.32 44.07
ART 92.90 91.76 89.84 37.58
SVHN Natural 60.43 56.50 95.66 0.
PGD-7 39.67 55.56 92.84 50.12
ART 61.37 72.60 95.47 43.56
GTSRB Natural 68.74 76.48 99.43 19.9
IG Norm 74.81 75.55 97.02 75.24
IG-SUM Norm 74.04 76.84 95.68 77.12
PGD-7 86.13 88.42 98.36 87.49
ART 91.96 89.34 98.47 84.66
Flower Natural 38.22 56.43 93.91 0.
IG Norm 64.68 75.91 85.29 24.26
IG-SUM Norm 66.33 79.74 82.35 47.06
PGD-7 80.84 84.14 92.64 69.85
ART 79.84 84.87 93.21 33.08
""".strip().splitlines()
DATASETS = {"CIFAR-10": "cifar10", "SVHN": "svhn", "GTSRB": "gtsrb", "Flower": "flower17"}


def printed_rows():
    dataset = None
    for line in PRINTED:
        *words, in_, k, natural, adversarial = line.split()
        if words[0] in DATASETS:
            dataset = DATASETS[words.pop(0)]
        yield dataset, " ".join(words), float(in_), float(k), float(natural), float(adversarial)


def test_every_printed_line_is_a_row_in_the_same_order():
    table = paper.table("table1")
    columns = ["dataset", "approach", "IN", "K", "natural", "adversarial"]
    assert list(table) == ["dataset", "training", *columns[1:]]
    assert [tuple(row) for row in table[columns].itertuples(index=False)] == list(printed_rows())


@pytest.mark.parametrize("approach", ["Natural", "PGD-10", "PGD-7", "ART", "IG Norm", "IG-SUM Norm"])
def test_a_printed_approach_has_one_training_name(approach):
    table = paper.table("table1")
    assert table.loc[table["approach"] == approach, "training"].nunique() == 1


COPY = yaml.safe_load("""
table2:
  resnet50-se: {adl: {grad_gt_known: null, grad_top1_loc: null, cam_gt_known: null, cam_top1_loc: 62.29,
        top1_acc: 80.34}}
  resnet50:
    adl:     {grad_gt_known: 52.93, grad_top1_loc: 43.78, cam_gt_known: 56.85, cam_top1_loc: 47.53, top1_acc: 80.0}
    natural: {grad_gt_known: 50.2,  grad_top1_loc: 42.0,  cam_gt_known: 60.37, cam_top1_loc: 50.0,  top1_acc: 81.12}
    pgd-7:   {grad_gt_known: 66.73, grad_top1_loc: 47.48, cam_gt_known: 55.24, cam_top1_loc: 39.45, top1_acc: 70.3}
    art:     {grad_gt_known: 82.65, grad_top1_loc: 65.22, cam_gt_known: 58.87, cam_top1_loc: 46.02, top1_acc: 77.51}
  vgg-gap:
    adl:     {grad_gt_known: 63.18, grad_top1_loc: 43.59, cam_gt_known: 69.36, cam_top1_loc: 50.88, top1_acc: 70.31}
    natural: {grad_gt_known: 72.54, grad_top1_loc: 53.81, cam_gt_known: 48.75, cam_top1_loc: 35.03, top1_acc: 72.94}
    art:     {grad_gt_known: 76.50, grad_top1_loc: 57.74, cam_gt_known: 52.88, cam_top1_loc: 40.75, top1_acc: 74.51}
table3:
  columns: [gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow, fog,
        brightness, contrast, elastic_transform, pixelate, jpeg_compression, speckle_noise]
  natural: [49.16, 61.42, 59.22, 83.55, 53.84, 79.16, 79.18, 84.53, 91.6, 94.37, 87.63, 84.44, 74.12, 79.76, 65.04]
  pgd-10:  [83.32, 84.33, 73.73, 83.09, 81.27, 79.60, 82.07, 82.68, 68.81, 85.97, 57.86, 81.68, 85.56, 85.56, 83.64]
  art:     [85.44, 86.41, 77.07, 86.07, 81.70, 83.14, 85.54, 84.99, 71.04, 89.42, 56.69, 84.72, 87.64, 87.89, 86.02]
table4:
  gradient: {natural: {IN: 13.72, K: 9.5}, pgd-10: {IN: 54.8, K: 54.06}, art: {IN: 76.07, K: 70.31}}
  gradshap: {natural: {IN: 4.5, K: 16.52}, pgd-10: {IN: 45.05, K: 59.80}, art: {IN: 48.31, K: 62.35}}
table5:
  eq2_gradient_difference:      {IN: 74.78, K: 71.40, nat: 91.34, adv: 15.15}
  eq4_l2_distance:              {IN: 68.41, K: 69.75, nat: 91.66, adv: 16.64}
  eq4_cosine_distance:          {IN: 91.25, K: 89.28, nat: 89.21, adv: 35.95}
  eq5_negative_is_least_likely: {IN: 90.75, K: 83.32, nat: 89.94, adv: 37.93}
  eq5_art:                      {IN: 92.90, K: 91.76, nat: 89.84, adv: 37.50}
table6:
  natural: {natural: 0.0,   pgd-10: 80.35, art: 49.09, clean: 95.26}
  pgd-10:  {natural: 86.44, pgd-10: 44.07, art: 71.34, clean: 87.32}
  art:     {natural: 88.45, pgd-10: 72.72, art: 37.58, clean: 89.84}
text:
  targeted_attribution_attack_ig_1000_images: {art: {K: 64.76, IN: 70.64}, pgd-10: {K: 36.29, IN: 31.81}}
  stronger_pgd_art: {pgd-100: 37.42, pgd-500: 37.18, spsa_1000_images: 44.7}
  other_threats: {l2_pgd40_eps1.0: {art: 39.65, pgd-10: 29.68}, spatial: {art: 11.13, pgd-10: 6.76}}
  flower_top1_seg_fraction: {ig: {natural: 0.337, pgd-7: 0.422, art: 0.604}, gradient: {natural: 0.244,
        pgd-7: 0.246, art: 0.317}, masks: 849, iou: 0.5}
  pgd20_comparison: {jarn: {adv: 15.5, nat: 93.9}, cure: {adv: 41.4, nat: 83.1}, art: {adv: 37.73, nat: 89.84}}
  perturb_with_Lattr_plus_Lce: {nat: 85.33, pgd40_adv: 52.31, IN: 74.24, K: 77.86}
""")
NAMES = {"nat": "natural", "adv": "adversarial", "pgd-7": "pgd", "pgd-10": "pgd", "pgd40_adv": "adversarial"}


def values_of(name, setting=None):
    """{training: {metric: value}} of a printed object, in one setting."""
    table = paper.published().query("object == @name")
    table = table if setting is None else table[table["setting"] == setting]
    return {t: dict(zip(rows["metric"], rows["value"], strict=True)) for t, rows in table.groupby("training")}


def renamed(tree, **more):
    names = NAMES | more
    if not isinstance(tree, dict):
        return tree
    return {names.get(k, k): renamed(v, **more) for k, v in tree.items() if v is not None}


def test_table_2():
    long_names = {f"grad_{m}": f"gradient_{m}" for m in ("gt_known", "top1_loc")} | {"top1_acc": "natural"}
    printed = {network.replace("-", "_"): renamed(rows, **long_names) for network, rows in COPY["table2"].items()}
    assert {setting: values_of("table2", setting) for setting in printed} == printed
    assert set(paper.table("table2")["setting"]) == set(printed)


def test_table_3():
    columns = COPY["table3"]["columns"]
    rows = {t: dict(zip(columns, row, strict=True)) for t, row in COPY["table3"].items() if t != "columns"}
    assert values_of("table3") == renamed(rows)
    assert list(paper.table("table3"))[3:] == columns


def test_table_4():
    assert {setting: values_of("table4", setting) for setting in COPY["table4"]} == renamed(COPY["table4"])


def test_table_5():
    names = dict(
        eq2_gradient_difference="art_eq2",
        eq4_l2_distance="art_l2",
        eq4_cosine_distance="art_cosine",
        eq5_negative_is_least_likely="art_least_likely",
        eq5_art="art",
    )
    assert values_of("table5") == renamed(COPY["table5"], **names)


def test_table_6():
    sources = {"natural": "from_natural", "pgd": "from_pgd", "art": "from_art", "clean": "natural"}
    rows = {training: {sources[k]: v for k, v in row.items()} for training, row in renamed(COPY["table6"]).items()}
    assert values_of("table6") == rows


def test_numbers_in_the_text():
    text = renamed(COPY["text"])
    assert values_of("text", "targeted") == {
        t: {f"{m}_targeted": v for m, v in row.items()}
        for t, row in text["targeted_attribution_attack_ig_1000_images"].items()
    }
    stronger = text["stronger_pgd_art"]
    assert values_of("text", "stronger") == {
        "art": {"pgd_100": stronger["pgd-100"], "pgd_500": stronger["pgd-500"], "spsa": stronger["spsa_1000_images"]}
    }
    other = text["other_threats"]
    assert values_of("text", "other_threats") == {
        t: {"l2_pgd_40": other["l2_pgd40_eps1.0"][t], "spatial": other["spatial"][t]} for t in ("art", "pgd")
    }
    for setting, key in (("integrated_gradients", "ig"), ("gradient", "gradient")):
        printed = text["flower_top1_seg_fraction"][key]
        assert values_of("text", setting) == {t: {"top1_seg": pytest.approx(100 * v)} for t, v in printed.items()}
    under_20 = {
        t: {"pgd_20": row["adversarial"], "natural": row["natural"]} for t, row in text["pgd20_comparison"].items()
    }
    assert values_of("text", "pgd_20") == under_20
    combined = values_of("text", "combined")
    assert combined["art_combined"] == text["perturb_with_Lattr_plus_Lce"]
    table1 = paper.table("table1").query("dataset == 'cifar10'").set_index("training")  # compared with in appendix C
    assert all(v == table1.loc[t, m] for t in ("pgd", "art") for m, v in combined[t].items())
