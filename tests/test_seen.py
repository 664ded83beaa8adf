"""A model knows the scans that it was trained on, so that nobody is judged by them unawares."""

from dataclasses import replace

import onnx

from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.model.model_file import with_manifest
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.quality.training_data import TrainingData, describe_data


def test_a_scan_of_the_training_is_known_again(brats_folder, config_path, recipe, manifest):
    """By what it looks like, whatever its name, and whichever modalities the model sees."""
    preprocess(brats_folder, brats_folder / "prepared", str(config_path))
    index = load_index(brats_folder / "prepared")
    parts = {"train": index.cases[:2], "test": index.cases[2:]}
    case, *others = find_cases(brats_folder)
    for modalities in (recipe.modalities, recipe.modalities[:1]):
        looks = {n: [c.appearance.select(modalities) for c in of] for n, of in parts.items()}
        data = describe_data(looks["train"], [], {}).with_seen(looks)
        volume = read_volume(replace(case, id="renamed"), modalities)
        known = [data.part_of(prepare(volume, recipe.select(modalities)).appearance)]
        for other in others:
            prepared = prepare(read_volume(other, modalities), recipe.select(modalities))
            known.append(data.part_of(prepared.appearance))
        assert known == ["train", "train", "test"]
        assert TrainingData.model_validate_json(data.model_dump_json()) == data
        volume.array[3, 3, 3] += 50
        assert data.part_of(prepare(volume, recipe.select(modalities)).appearance) == ""


def test_predict_says_how_many_scans_the_model_was_trained_on(
    vol3dseg, brats_folder, config_path, manifest, model_path, tmp_path
):
    preprocess(brats_folder, tmp_path / "P", str(config_path))
    looks = [case.appearance for case in load_index(tmp_path / "P").cases]
    data = describe_data(looks[:2], [], {}).with_seen({"train": looks[:2]})
    model = onnx.load_model_from_string(model_path.read_bytes())
    known = manifest.model_copy(update={"training_data": data})
    model_path.write_bytes(with_manifest(model, known))
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    assert "note: the model was trained on 2 of these scans" in done.stdout
    done = vol3dseg("evaluate", tmp_path / "O", brats_folder, "-o", tmp_path / "R")
    assert "note: The means mix parts of a split (2 train, 1 others)" in done.stdout
